// Shape arithmetic that shape rules share.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <vector>

#include "graph/enums.h"
#include "graph/op.h"

namespace osprey {

// What floats may be between the preprocessing and the scores.
inline constexpr std::initializer_list<DType> kFloats{DType::kF32, DType::kBF16, DType::kF16};

// Output extent of a sliding window:
//   floor((in + before + after - ((kernel - 1) * dilation + 1)) / stride) + 1
inline Dim window_extent(const Dim& in, int kernel, int stride, int dilation, int before, int after) {
  const std::int64_t reach = (std::int64_t{kernel} - 1) * dilation + 1;  // attributes may come from a file
  return (in + (std::int64_t{before} + after - reach)).floor_div(stride) + 1;
}

// Two numbers (vertical, horizontal) or four (top, left, bottom, right), all at least `least`.
inline void expect_list(std::string_view op, std::string_view what, const std::vector<int>& list,
                        std::size_t size, int least) {
  require(list.size() == size, "{}: {} needs {} numbers, not {}", op, what, size, list.size());
  for (const int v : list) require(v >= least, "{}: {} holds {}, less than {}", op, what, v, least);
}

// A window that slides over maps, as convolutions and poolings have it. Two numbers are vertical, horizontal.
//
// Padding kSame is TensorFlow's SAME: a result of ceil(in / stride), and as many pixels around the map as
// that takes, the odd one below or on the right. So the pads depend on the extents: kernels ask for them when
// they are prepared.
struct SlidingWindow {
  std::array<std::int64_t, 2> kernel{1, 1}, stride{1, 1}, dilation{1, 1};
  std::array<int, 4> pads{};  // top, left, bottom, right
  Padding padding = Padding::kExplicit;

  Dim extent(std::size_t axis, const Dim& in) const {
    if (padding == Padding::kSame) return (in + (stride[axis] - 1)).floor_div(stride[axis]);
    return window_extent(in, static_cast<int>(kernel[axis]), static_cast<int>(stride[axis]),
                         static_cast<int>(dilation[axis]), pads[axis], pads[axis + 2]);
  }

  // Of maps of height x width.
  std::array<int, 4> pads_of(std::int64_t height, std::int64_t width) const {
    if (padding == Padding::kExplicit) return pads;
    const auto total = [&](std::size_t axis, std::int64_t in) {
      const std::int64_t out = (in + stride[axis] - 1) / stride[axis];
      const std::int64_t reach = (kernel[axis] - 1) * dilation[axis] + 1;
      return static_cast<int>(std::max<std::int64_t>((out - 1) * stride[axis] + reach - in, 0));
    };
    const int rows = total(0, height), columns = total(1, width);
    return {rows / 2, columns / 2, rows - rows / 2, columns - columns / 2};
  }
};

// Lists that expect_list has seen, as a window has them.
template <class T, std::size_t N>
std::array<T, N> array_of(const std::vector<int>& list) {
  std::array<T, N> out{};
  std::copy_n(list.begin(), N, out.begin());
  return out;
}

// Rows for all images of a batch: at most `per_image` for each. `batch` is N, or already a count of rows
// bounded by a multiple of N.
inline Dim rows_for_batch(const Dim& batch, std::int64_t per_image) {
  return Dim::at_most(batch * per_image);
}

}  // namespace osprey
