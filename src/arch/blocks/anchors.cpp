#include "arch/blocks/anchors.h"

#include <cmath>

#include "core/error.h"

namespace osprey {
namespace {

constexpr double kMaxExtent = 1e6;  // network pixels, and the flattest box: far above any detector's

struct Sides {
  double width, height;
};

void push_box(std::vector<float>& cells, double centre, Sides s, double inclusive) {
  const double half_w = 0.5 * (s.width - inclusive), half_h = 0.5 * (s.height - inclusive);
  for (const double corner : {centre - half_w, centre - half_h, centre + half_w, centre + half_h})
    cells.push_back(static_cast<float>(corner));
}

void push_centred(std::vector<float>& cells, const Anchors& anchors, std::size_t level) {
  for (const double size : anchors.sizes[level])
    for (const double ratio : anchors.ratios[level]) {
      const double width = std::sqrt(size * size / ratio);
      push_box(cells, 0, {width, ratio * width}, 0);
    }
}

void push_rounded(std::vector<float>& cells, const Anchors& anchors, std::size_t level) {
  const double stride = anchors.strides.at(level);
  for (const double ratio : anchors.ratios[level]) {
    const double width = std::nearbyint(std::sqrt(stride * stride / ratio));
    const double height = std::nearbyint(width * ratio);
    for (const double size : anchors.sizes[level])
      push_box(cells, 0.5 * (stride - 1), {width * (size / stride), height * (size / stride)}, 1);
  }
}

}  // namespace

std::vector<float> anchor_cells(const Anchors& anchors) {
  if (!anchors.given.empty()) return anchors.given;
  std::vector<float> cells;
  for (std::size_t level = 0; level < anchors.sizes.size(); ++level) {
    const std::size_t count = anchors.sizes[level].size() * anchors.ratios.at(level).size();
    require(static_cast<int>(count) == anchors.per_cell(),
            "anchors: level {} has {} a cell, level 0 has {}; heads that "
            "levels share need as many on each",
            level, count, anchors.per_cell());
    for (const double size : anchors.sizes[level])
      for (const double ratio : anchors.ratios[level])
        require(size > 0 && size < kMaxExtent && ratio > 1 / kMaxExtent && ratio < kMaxExtent,
                "anchors: size {} with aspect ratio {}", size, ratio);
    (anchors.rule == AnchorRule::kCentred ? push_centred : push_rounded)(cells, anchors, level);
  }
  return cells;
}

}  // namespace osprey
