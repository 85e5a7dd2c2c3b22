#include "arch/blocks/anchors.h"

#include <cmath>

#include "core/error.h"

namespace osprey {
namespace {

constexpr double kMaxExtent = 1e6;  // network pixels, and the flattest box: far above any detector's

}  // namespace

std::vector<float> anchor_cells(const Anchors& anchors) {
  std::vector<float> cells;
  for (std::size_t level = 0; level < anchors.sizes.size(); ++level) {
    const std::size_t count = anchors.sizes[level].size() * anchors.ratios.at(level).size();
    require(static_cast<int>(count) == anchors.per_cell(),
            "anchors: level {} has {} a cell, level 0 has {}; heads that "
            "levels share need as many on each",
            level, count, anchors.per_cell());
    for (const double size : anchors.sizes[level]) {
      for (const double ratio : anchors.ratios[level]) {
        require(size > 0 && size < kMaxExtent && ratio > 1 / kMaxExtent && ratio < kMaxExtent,
                "anchors: size {} with aspect ratio {}", size, ratio);
        const double w = std::sqrt(size * size / ratio), h = ratio * w;
        for (const double corner : {-w / 2, -h / 2, w / 2, h / 2})
          cells.push_back(static_cast<float>(corner));
      }
    }
  }
  return cells;
}

}  // namespace osprey
