#include "image/resize_cubic.h"

#include <algorithm>
#include <cmath>

namespace osprey {
namespace {

// Keys' kernel at a distance of 0 to 2 pixels.
float cubic(double t) {
  constexpr double a = -0.75;
  const double weight =
      t <= 1 ? ((a + 2) * t - (a + 3)) * t * t + 1 : ((a * t - 5 * a) * t + 8 * a) * t - 4 * a;
  return static_cast<float>(weight);
}

// a * b + c as a fused multiply-add gives it: a double holds the product of two floats.
float fused(float a, float b, float c) {
  return static_cast<float>(static_cast<double>(a) * static_cast<double>(b) + static_cast<double>(c));
}

// Halves to even, of 0 to 255; what is added to a float of this size loses its fraction.
std::uint8_t rounded(float v) {
  constexpr float kRound = 12582912.f;  // 1.5 * 2^23
  return static_cast<std::uint8_t>(std::clamp((v + kRound) - kRound, 0.0f, 255.0f));
}

float weighted(float p0, float p1, float p2, float p3, const float* w) {
  return fused(p0, w[0], p1 * w[1]) + fused(p2, w[2], p3 * w[3]);
}

}  // namespace

void CubicResizer::prepare_axis(std::vector<Tap>& taps, int from, int to) {
  taps.resize(static_cast<std::size_t>(to));
  const double scale = static_cast<double>(from) / to;
  for (int i = 0; i < to; ++i) {
    const double at = (i + 0.5) * scale - 0.5, low = std::floor(at);
    const double first = static_cast<float>(at - low) + 1.0f;  // the distance of the first pixel
    Tap& tap = taps[static_cast<std::size_t>(i)];
    tap.first = static_cast<int>(low) - 1;
    tap.weights = {cubic(first), cubic(first - 1), cubic(2 - first), cubic(3 - first)};
  }
}

void CubicResizer::prepare(ImageSize from, ImageSize to) {
  from_ = from, to_ = to;
  prepare_axis(x_, from.width, to.width);
  prepare_axis(y_, from.height, to.height);
}

void CubicResizer::widen(const std::uint8_t* row, float* out) const {
  for (const Tap& tap : x_) {
    const std::uint8_t* pixels[kTaps];
    for (int k = 0; k < kTaps; ++k) pixels[k] = row + 3 * std::clamp(tap.first + k, 0, from_.width - 1);
    for (int c = 0; c < 3; ++c)
      *out++ = weighted(pixels[0][c], pixels[1][c], pixels[2][c], pixels[3][c], tap.weights.data());
  }
}

// The widened source rows of the last output row are kept, each in the place of its number modulo kTaps.
void CubicResizer::rows(ImageView in, int begin, int end, std::uint8_t* out, std::ptrdiff_t stride,
                        std::span<float> workspace) const {
  const std::size_t width = 3 * static_cast<std::size_t>(to_.width);
  int held[kTaps] = {-1, -1, -1, -1};
  for (int y = begin; y < end; ++y) {
    const Tap& tap = y_[static_cast<std::size_t>(y)];
    const float* sources[kTaps];
    for (int k = 0; k < kTaps; ++k) {
      const int source = std::clamp(tap.first + k, 0, from_.height - 1), place = source % kTaps;
      float* const row = workspace.data() + static_cast<std::size_t>(place) * width;
      if (held[place] != source) widen(in.row(source), row);
      held[place] = source;
      sources[k] = row;
    }
    std::uint8_t* const to = out + y * stride;
    for (std::size_t i = 0; i < width; ++i) {
      const float sum =
          weighted(sources[0][i], sources[1][i], sources[2][i], sources[3][i], tap.weights.data());
      to[i] = rounded(sum);
    }
  }
}

}  // namespace osprey
