// For tests: boxes and maps for ops/roi_align.h.
#pragma once

#include <utility>
#include <vector>

#include "cpu/box_cases_test.h"
#include "ops/roi_align.h"

namespace osprey {

// An op, and what its maps are.
struct RoiSetting {
  RoiAlign op;
  std::int64_t images, channels;
  std::vector<std::pair<std::int64_t, std::int64_t>> sizes;
};

inline std::vector<Tensor> random_levels(const RoiSetting& s) {
  std::vector<Tensor> out;
  for (std::uint32_t l = 0; l < s.sizes.size(); ++l)
    out.push_back(random_tensor({s.images, s.channels, s.sizes[l].first, s.sizes[l].second}, -1, 1, 5 + l));
  return out;
}

// Boxes of all sizes over a picture of 160 x 224, some beyond its edges, some without extent.
inline std::vector<Roi> random_rois(std::int64_t count, std::int64_t images) {
  const std::vector<float> r = random_floats(count * 4, 0, 1, 3);
  std::vector<Roi> out;
  for (std::int64_t i = 0; i < count; ++i) {
    const float* v = &r[static_cast<std::size_t>(i) * 4];
    const float w = 300 * v[2] * v[2] * v[2], h = 240 * v[3] * v[3] * v[3];
    const float x = v[0] * 260 - 30 - w / 2, y = v[1] * 190 - 20 - h / 2;
    out.push_back({static_cast<float>(i % images), {x, y, x + w, y + h}});
  }
  return out;
}

}  // namespace osprey
