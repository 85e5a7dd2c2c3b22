// The boxes that non-maximum suppression kept so far, which each candidate is compared with.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/boxes.h"
#include "cpu/vectors.h"

namespace osprey {

inline constexpr std::int64_t kKeptBlock = 64;  // boxes compared before looking whether one overlaps

// A column each; behind the last box up to a whole block are boxes that overlap nothing.
struct KeptBoxes {
  float *x0, *y0, *x1, *y1, *area;
  std::int32_t* group;
  std::int64_t count = 0;
  bool inclusive = false;

  // Columns of `capacity` boxes, a multiple of kKeptBlock, one after the other in `memory`.
  static constexpr std::int64_t kColumns = 6;
  static std::int64_t whole_blocks(std::int64_t boxes) {
    return (boxes + kKeptBlock - 1) / kKeptBlock * kKeptBlock;
  }
  KeptBoxes(float* memory, std::int64_t capacity)
      : x0(memory),
        y0(memory + capacity),
        x1(memory + 2 * capacity),
        y1(memory + 3 * capacity),
        area(memory + 4 * capacity),
        group(reinterpret_cast<std::int32_t*>(memory + 5 * capacity)) {}

  void add(const Box& b, std::int32_t g) {
    if (count % kKeptBlock == 0) clear_block();
    x0[count] = b.x0, y0[count] = b.y0, x1[count] = b.x1, y1[count] = b.y1;
    area[count] = area_of(b, inclusive), group[count] = g;
    ++count;
  }
  float iou(std::int64_t i, const Box& b) const {
    const float w = std::min(b.x1, x1[i]) - std::max(x0[i], b.x0);
    const float h = std::min(b.y1, y1[i]) - std::max(y0[i], b.y0);
    const float common = (w > 0 ? w : 0) * (h > 0 ? h : 0);
    return common / (area[i] + b.area() - common);
  }

 private:
  void clear_block() {
    for (float* const column : {x0, y0}) std::fill_n(column + count, kKeptBlock, 1e30f);
    for (float* const column : {x1, y1, area}) std::fill_n(column + count, kKeptBlock, 0.0f);
    std::fill_n(group + count, kKeptBlock, 0);
  }
};

// Whether a kept box of the same group overlaps by more than `iou`, an inclusive one by as much or more. NaN
// compares false all through.
template <bool inclusive>
[[gnu::always_inline]] inline bool overlaps_kept(const KeptBoxes* kept, const Box* box, std::int32_t group,
                                                 float iou) {
  constexpr float kPixel = inclusive_pixel(inclusive);
  const float bx0 = box->x0, by0 = box->y0, bx1 = box->x1, by1 = box->y1, area = area_of(*box, inclusive);
  for (std::int64_t begin = 0; begin < kept->count; begin += kKeptBlock) {
    const float *x0 = kept->x0 + begin, *y0 = kept->y0 + begin, *x1 = kept->x1 + begin,
                *y1 = kept->y1 + begin;
    const float* areas = kept->area + begin;
    const std::int32_t* groups = kept->group + begin;
    std::int32_t hits = 0;
    for (std::int64_t i = 0; i < kKeptBlock; ++i) {
      const float left = x0[i] < bx0 ? bx0 : x0[i], top = y0[i] < by0 ? by0 : y0[i];
      const float right = bx1 < x1[i] ? bx1 : x1[i], bottom = by1 < y1[i] ? by1 : y1[i];
      const float wide = right - left + kPixel, high = bottom - top + kPixel;
      const float common = (wide > 0 ? wide : 0) * (high > 0 ? high : 0);
      const float quotient = common / (areas[i] + area - common);
      hits |= (inclusive ? quotient >= iou : quotient > iou) & (groups[i] == group);
    }
    if (hits) return true;
  }
  return false;
}

inline bool suppressed(const KeptBoxes& kept, const Box& box, std::int32_t group, float iou) {
  return kept.inclusive ? vectorised<overlaps_kept<true>>(&kept, &box, group, iou)
                        : vectorised<overlaps_kept<false>>(&kept, &box, group, iou);
}

}  // namespace osprey
