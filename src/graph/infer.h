// Shape arithmetic that shape rules share.
#pragma once

#include <cmath>
#include <string_view>
#include <vector>

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

// Rows for all images of a batch: at most `per_image` for each. `batch` is N, or already a count of rows
// bounded by a multiple of N.
inline Dim rows_for_batch(const Dim& batch, std::int64_t per_image) {
  return Dim::at_most(batch * per_image);
}

}  // namespace osprey
