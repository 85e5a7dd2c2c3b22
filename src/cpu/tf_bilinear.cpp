#include "cpu/tf_bilinear.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "cpu/vectors.h"

namespace osprey {
namespace {

// Pixels are moved as four floats, of which the last is the next pixel's: rows are one float longer for it.
using Pixel = Floats<4>;

[[gnu::always_inline]] inline void mix_columns(const BilinearTap* taps, int width, const float* from,
                                               float* to) {
  for (int x = 0; x < width; ++x) {
    const Pixel lower = *reinterpret_cast<const Pixel*>(from + 3 * std::ptrdiff_t{taps[x].lower});
    const Pixel upper = *reinterpret_cast<const Pixel*>(from + 3 * std::ptrdiff_t{taps[x].upper});
    *reinterpret_cast<Pixel*>(to + 3 * std::ptrdiff_t{x}) = lower + (upper - lower) * taps[x].above;
  }
}

[[gnu::always_inline]] inline void mix_rows(const float* lower, const float* upper, float above,
                                            std::ptrdiff_t count, float* to) {
  for (std::ptrdiff_t i = 0; i < count; ++i) to[i] = lower[i] + (upper[i] - lower[i]) * above;
}

void prepare_axis(std::vector<BilinearTap>& taps, int in, int out, bool half_pixel) {
  const float scale = static_cast<float>(in) / static_cast<float>(out);
  taps.resize(static_cast<std::size_t>(out));
  for (int i = 0; i < out; ++i) {
    const auto at = static_cast<float>(i);
    const float source = half_pixel ? (at + 0.5f) * scale - 0.5f : at * scale;
    const float whole = std::floor(source);
    const int upper = std::min(static_cast<int>(std::ceil(source)), in - 1);
    taps[static_cast<std::size_t>(i)] = {std::min(std::max(static_cast<int>(whole), 0), upper), upper,
                                         source - whole};
  }
}

std::size_t row_floats(int width) { return static_cast<std::size_t>(width) * 3 + 1; }

}  // namespace

LevelTable::LevelTable(const ResizeImage& op) : bgr_(op.bgr) {
  for (std::size_t c = 0; c < 3; ++c)
    for (std::size_t level = 0; level < 256; ++level) {
      const float scaled = static_cast<float>(level) * op.scale;
      values_[c][level] = op.mean.empty() ? scaled : (scaled - op.mean[c]) / op.std[c];
    }
}

void LevelTable::convert(const std::uint8_t* from, int width, float* to) const {
  const std::ptrdiff_t first = bgr_ ? 2 : 0, last = 2 - first;
  for (std::ptrdiff_t i = 0; i < 3 * std::ptrdiff_t{width}; i += 3) {
    to[i] = values_[0][from[i + first]];
    to[i + 1] = values_[1][from[i + 1]];
    to[i + 2] = values_[2][from[i + last]];
  }
}

void TfBilinear::prepare(ImageSize from, ImageSize to, bool half_pixel) {
  from_ = from, to_ = to;
  prepare_axis(x_, from.width, to.width, half_pixel);
  prepare_axis(y_, from.height, to.height, half_pixel);
}

// The photo's row in floats, and the two last rows at the output's width.
std::size_t TfBilinear::workspace_size() const { return row_floats(from_.width) + 2 * row_floats(to_.width); }

void TfBilinear::rows(const ImageView& photo, const LevelTable& table, int begin, int end, float* out,
                      std::ptrdiff_t stride, std::span<float> workspace) const {
  check(workspace.size() >= workspace_size(), "tf_bilinear: a workspace of {} floats", workspace.size());
  float* const levels = workspace.data();
  std::array<float*, 2> mixed{levels + row_floats(from_.width),
                              levels + row_floats(from_.width) + row_floats(to_.width)};
  std::array<int, 2> holds{-1, -1};
  // Source row y at the output's width; `busy` is the buffer not to be overwritten.
  const auto mixed_row = [&](int y, std::size_t busy) {
    for (std::size_t b = 0; b < 2; ++b)
      if (holds[b] == y) return b;
    const std::size_t b = 1 - busy;
    table.convert(photo.row(y), from_.width, levels);
    levels[3 * std::ptrdiff_t{from_.width}] = 0;
    vectorised<mix_columns>(x_.data(), to_.width, static_cast<const float*>(levels), mixed[b]);
    holds[b] = y;
    return b;
  };
  for (int y = begin; y < end; ++y) {
    const BilinearTap& tap = y_[static_cast<std::size_t>(y)];
    const std::size_t upper = holds[0] == tap.upper ? 0 : 1;  // kept, should it be there
    const std::size_t lower = mixed_row(tap.lower, upper);
    const std::size_t above = mixed_row(tap.upper, lower);
    vectorised<mix_rows>(static_cast<const float*>(mixed[lower]), static_cast<const float*>(mixed[above]),
                         tap.above, 3 * std::ptrdiff_t{to_.width}, out + y * stride);
  }
}

}  // namespace osprey
