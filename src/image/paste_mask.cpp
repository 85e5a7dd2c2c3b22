#include "image/paste_mask.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/error.h"

namespace osprey {
namespace {

constexpr int kBorder = 2;  // zeros on each side of the map: samples beyond them are zero too

// One column of pixels: the four map cells around each, and the weights of the cells.
struct Column {
  const float *north_west, *north_east, *south_west, *south_east;
  const float *north, *south;
  float west, east;
};

// The fused operations are torch's: its builds for AVX2 and AVX-512, the only ones met in practice, contract
// them.
// (`inside` is restricted and the column a copy, or its bytes could overwrite what is read, and nothing is
// vectorised.)
[[gnu::always_inline]] inline void threshold_body(const Column c, float threshold, int rows,
                                                  std::uint8_t* __restrict inside) {
  for (int y = 0; y < rows; ++y) {
    float value = c.north_west[y] * (c.west * c.north[y]);
    value = __builtin_fmaf(c.north_east[y], c.east * c.north[y], value);
    value = __builtin_fmaf(c.south_west[y], c.west * c.south[y], value);
    value = __builtin_fmaf(c.south_east[y], c.east * c.south[y], value);
    inside[y] = value >= threshold;
  }
}

using ThresholdColumn = void (*)(const Column&, float, int, std::uint8_t*);

void threshold_any(const Column& c, float threshold, int rows, std::uint8_t* inside) {
  threshold_body(c, threshold, rows, inside);
}
#if defined(__x86_64__)
[[gnu::target("avx2,fma")]] void threshold_avx2(const Column& c, float threshold, int rows,
                                                std::uint8_t* inside) {
  threshold_body(c, threshold, rows, inside);
}
[[gnu::target("avx512f,avx512bw,avx512vl")]] void threshold_avx512(const Column& c, float threshold, int rows,
                                                                   std::uint8_t* inside) {
  threshold_body(c, threshold, rows, inside);
}
#endif

ThresholdColumn choose() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) return threshold_avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return threshold_avx2;
#endif
  return threshold_any;
}

// Where the pixels of a side sample a map of `size` cells, in cells; NaN outside the map.
class CentreSamples {
 public:
  CentreSamples(float low, float high, int size)
      : low_(low), extent_(high - low), half_(static_cast<float>(size) / 2) {}
  float operator()(int pixel) const {
    const float relative = (static_cast<float>(pixel) + 0.5f - low_) / extent_ * 2 - 1;  // -1 to 1 in the box
    return std::fma(relative + 1, half_, -0.5f);
  }

 private:
  float low_, extent_, half_;
};

class CornerSamples {
 public:
  CornerSamples(float low, float high, int length, int size) : last_(static_cast<float>(size - 1)) {
    const float first = low / static_cast<float>(length), extent = (high - low) / static_cast<float>(length);
    const float start = (0 - first) / extent, stop = (1 - first) / extent;
    start_ = length > 1 ? start * last_ : 0.5f * (start + stop) * last_;
    step_ = length > 1 ? (stop - start) * last_ / static_cast<float>(length - 1) : 0;
  }
  float operator()(int pixel) const {
    const float at = start_ + static_cast<float>(pixel) * step_;
    return at >= 0 && at <= last_ ? at : std::numeric_limits<float>::quiet_NaN();
  }

 private:
  float last_, start_ = 0, step_ = 0;
};

// The map, within a cell of zeros, enlarged to the pixels from `first` on, as torch's interpolate does it.
class PaddedSamples {
 public:
  PaddedSamples(float first, float pixels, int size)
      : first_(first), scale_(static_cast<float>(size + 2) / pixels) {}
  float operator()(int pixel) const {
    return std::fma(scale_, static_cast<float>(pixel) - first_ + 0.5f, -0.5f) - 1;
  }

 private:
  float first_, scale_;
};

// A stretch of pixels, [begin, end).
struct Stretch {
  float begin, end;
};

// One side of a box grown by the cell of zeros, its ends cut towards zero.
Stretch padded_side(float low, float high, int size) {
  constexpr float kFar = 1 << 24;  // whole numbers are exact up to here
  const float half = (high - low) * 0.5f * (static_cast<float>(size + 2) / static_cast<float>(size));
  const float centre = (high + low) * 0.5f;
  const float first = std::trunc(std::clamp(centre - half, -kFar, kFar));
  const float last = std::trunc(std::clamp(centre + half, -kFar, kFar));
  return {first, last + 1};
}

// Samples of those pixels that lie in a photo's side of `length` pixels; false when there are none.
template <class Samples>
bool prepare(PasteWorkspace::Axis& axis, Stretch pixels, int length, int size, const Samples& sample_of) {
  const float begin = std::max(pixels.begin, 0.f);
  const float end = std::min(pixels.end, static_cast<float>(length));
  if (!(begin < end)) return false;
  axis.begin = static_cast<int>(begin);
  axis.end = static_cast<int>(end);
  const auto count = static_cast<std::size_t>(axis.end - axis.begin);
  axis.index.resize(count), axis.near.resize(count), axis.far.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    const float at = sample_of(axis.begin + static_cast<int>(i));
    const float cell = std::floor(at);
    axis.far[i] = at - cell;
    axis.near[i] = 1 - axis.far[i];
    // A NaN lands in the border too, and its weights keep it out of the mask.
    axis.index[i] =
        kBorder + (cell > -kBorder ? static_cast<int>(std::min(cell, static_cast<float>(size))) : -kBorder);
  }
  return true;
}

void pad(std::span<const float> map, int size, std::vector<float>& out) {
  const int side = size + 2 * kBorder;
  out.assign(static_cast<std::size_t>(side) * side, 0.f);
  for (int y = 0; y < size; ++y)
    std::memcpy(&out[static_cast<std::size_t>((y + kBorder) * side + kBorder)],
                &map[static_cast<std::size_t>(y * size)], static_cast<std::size_t>(size) * sizeof(float));
}

// Column `x` of the padded map and the one east of it, stretched to the rows of pixels.
void stretch(PasteWorkspace& w, int side, int x) {
  for (auto& corner : w.corners) corner.resize(w.y.index.size());
  for (std::size_t i = 0; i < w.y.index.size(); ++i) {
    const float* cell = &w.padded[static_cast<std::size_t>(w.y.index[i] * side + x)];
    w.corners[0][i] = cell[0];
    w.corners[1][i] = cell[1];
    w.corners[2][i] = cell[side];
    w.corners[3][i] = cell[side + 1];
  }
}

// Appends runs of zeros and ones, joining neighbours of the same value.
class RunWriter {
 public:
  explicit RunWriter(std::vector<std::uint32_t>& counts) : counts_(counts) { counts_.clear(); }

  void add(bool value, std::uint32_t length) {
    if (length == 0) return;
    if (value != value_) {
      counts_.push_back(run_);
      value_ = value;
      run_ = 0;
    }
    run_ += length;
  }
  void add(std::span<const std::uint8_t> inside) {
    while (!inside.empty()) {
      const bool value = inside[0] != 0;
      const void* change = std::memchr(inside.data(), value ? 0 : 1, inside.size());
      const std::size_t length =
          change ? static_cast<std::size_t>(static_cast<const std::uint8_t*>(change) - inside.data())
                 : inside.size();
      add(value, static_cast<std::uint32_t>(length));
      inside = inside.subspan(length);
    }
  }
  void finish() { counts_.push_back(run_); }

 private:
  std::vector<std::uint32_t>& counts_;
  std::uint32_t run_ = 0;
  bool value_ = false;
};

bool prepare_side(PasteWorkspace::Axis& axis, float low, float high, int length, int size,
                  MaskSampling sampling) {
  if (sampling == MaskSampling::kPadded) {
    const Stretch pixels = padded_side(low, high, size);
    return prepare(axis, pixels, length, size, PaddedSamples(pixels.begin, pixels.end - pixels.begin, size));
  }
  const Stretch pixels{std::floor(low) - 1, std::ceil(high) + 1};
  return sampling == MaskSampling::kCentres
             ? prepare(axis, pixels, length, size, CentreSamples(low, high, size))
             : prepare(axis, pixels, length, size, CornerSamples(low, high, length, size));
}

// Both sides' samples, and the map within its border; false when no pixel is concerned.
bool prepare_map(std::span<const float> probabilities, int size, const Box& box, int height, int width,
                 PasteWorkspace& w, MaskSampling sampling) {
  check(size > 0 && probabilities.size() == static_cast<std::size_t>(size) * static_cast<std::size_t>(size),
        "paste_mask: {} probabilities for a map of {} x {}", probabilities.size(), size, size);
  if (!prepare_side(w.x, box.x0, box.x1, width, size, sampling) ||
      !prepare_side(w.y, box.y0, box.y1, height, size, sampling))
    return false;
  pad(probabilities, size, w.padded);
  return true;
}

// Of a workspace whose corners are those of that column.
Column column_of(const PasteWorkspace& w, std::size_t x) {
  return {w.corners[0].data(), w.corners[1].data(), w.corners[2].data(), w.corners[3].data(),
          w.y.near.data(),     w.y.far.data(),      w.x.near[x],         w.x.far[x]};
}

}  // namespace

void paste_mask(std::span<const float> probabilities, int size, const Box& box, int height, int width,
                float threshold, PasteWorkspace& w, Rle& out, MaskSampling sampling) {
  check(threshold > 0, "paste_mask: threshold {} would make all that lies outside the box part of the mask",
        threshold);
  static const ThresholdColumn threshold_column = choose();
  out.height = height;
  out.width = width;
  RunWriter runs(out.counts);
  const auto rows_of = [height](int columns) {
    return static_cast<std::uint32_t>(columns) * static_cast<std::uint32_t>(height);
  };
  // What must be above the threshold is at least the next number.
  if (sampling == MaskSampling::kPadded)
    threshold = std::nextafter(threshold, std::numeric_limits<float>::infinity());
  if (!prepare_map(probabilities, size, box, height, width, w, sampling)) {
    runs.add(false, rows_of(width));
    return runs.finish();
  }

  const int rows = w.y.end - w.y.begin;
  w.inside.resize(static_cast<std::size_t>(rows));
  runs.add(false, rows_of(w.x.begin));
  int stretched = -1;
  for (std::size_t x = 0; x < w.x.index.size(); ++x) {
    if (w.x.index[x] != stretched) stretch(w, size + 2 * kBorder, stretched = w.x.index[x]);
    threshold_column(column_of(w, x), threshold, rows, w.inside.data());
    runs.add(false, static_cast<std::uint32_t>(w.y.begin));
    runs.add(w.inside);
    runs.add(false, static_cast<std::uint32_t>(height - w.y.end));
  }
  runs.add(false, rows_of(width - w.x.end));
  runs.finish();
}

void paste_probabilities(std::span<const float> probabilities, int size, const Box& box, int height,
                         int width, PasteWorkspace& w, std::span<std::uint8_t> out, MaskSampling sampling) {
  const auto wide = static_cast<std::size_t>(width);
  check(out.size() == wide * static_cast<std::size_t>(height), "paste_probabilities: {} pixels for {} x {}",
        out.size(), height, width);
  std::fill(out.begin(), out.end(), std::uint8_t{0});
  if (!prepare_map(probabilities, size, box, height, width, w, sampling)) return;
  for (std::size_t x = 0; x < w.x.index.size(); ++x) {
    stretch(w, size + 2 * kBorder, w.x.index[x]);
    const Column c = column_of(w, x);
    for (std::size_t y = 0; y < w.y.index.size(); ++y) {
      const float value = (c.north_west[y] * c.west + c.north_east[y] * c.east) * c.north[y] +
                          (c.south_west[y] * c.west + c.south_east[y] * c.east) * c.south[y];
      const std::size_t pixel =
          (static_cast<std::size_t>(w.y.begin) + y) * wide + static_cast<std::size_t>(w.x.begin) + x;
      // NaN, outside TensorFlow's boxes, is no probability.
      out[pixel] = value > 0 ? static_cast<std::uint8_t>(std::min(value * 255, 255.0f)) : std::uint8_t{0};
    }
  }
}

}  // namespace osprey
