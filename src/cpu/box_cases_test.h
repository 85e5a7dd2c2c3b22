// Random boxes, deltas and geometry for the tests of the box kernels.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/boxes.h"
#include "cpu/kernel_harness.h"

namespace osprey {

inline std::vector<Roi> random_boxes(std::int64_t count, std::int64_t images, std::uint32_t seed) {
  const std::vector<float> r = random_floats(count * 4, 0, 1, seed);
  std::vector<Roi> out;
  for (std::int64_t i = 0; i < count; ++i) {
    const float* v = &r[static_cast<std::size_t>(i) * 4];
    const float x = v[0] * 120 - 10, y = v[1] * 90 - 10;
    const std::int64_t image = i * images / count;
    out.push_back({static_cast<float>(image), {x, y, x + v[2] * 60, y + v[3] * 60}});
  }
  return out;
}

// Two images of different sizes: 80 x 100 and 60 x 120 network pixels.
inline const std::vector<Geometry> kTwoImages{{80, 100, 1.5f, 1.25f, 120, 125},
                                              {60, 120, 0.5f, 0.75f, 30, 90}};

template <class Row>
Tensor rows_tensor(const std::vector<Row>& rows) {
  constexpr std::int64_t kWidth = sizeof(Row) / sizeof(float);
  return Tensor::from<float>({reinterpret_cast<const float*>(rows.data()), rows.size() * kWidth},
                             {static_cast<std::int64_t>(rows.size()), kWidth});
}

template <class Row>
std::vector<Row> tensor_rows(const Tensor& t) {
  const auto* first = reinterpret_cast<const Row*>(t.bytes().data());
  return {first, first + t.dim(0)};
}

// Box2BoxTransform.apply_deltas in double arithmetic.
inline Box decode_reference(const Box& b, const float* d, const std::vector<float>& weights, double most) {
  const double w = b.width(), h = b.height();
  const double x = d[0] / weights[0] * w + b.x0 + w / 2, y = d[1] / weights[1] * h + b.y0 + h / 2;
  const double half_w = std::exp(std::min<double>(d[2] / weights[2], most)) * w / 2;
  const double half_h = std::exp(std::min<double>(d[3] / weights[3], most)) * h / 2;
  return {static_cast<float>(x - half_w), static_cast<float>(y - half_h), static_cast<float>(x + half_w),
          static_cast<float>(y + half_h)};
}

inline float largest_difference(const Box& a, const Box& b) {
  return std::max(
      {std::abs(a.x0 - b.x0), std::abs(a.y0 - b.y0), std::abs(a.x1 - b.x1), std::abs(a.y1 - b.y1)});
}

}  // namespace osprey
