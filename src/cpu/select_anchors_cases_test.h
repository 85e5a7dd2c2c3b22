// For tests: settings of ops/select_anchors.h, and maps for them.
#pragma once

#include <utility>
#include <vector>

#include "cpu/box_cases_test.h"
#include "ops/select_anchors.h"

namespace osprey {

struct AnchorLevel {
  Tensor scores, deltas;
};

inline std::vector<AnchorLevel> random_anchor_levels(
    const SelectAnchors& op, std::int64_t images,
    const std::vector<std::pair<std::int64_t, std::int64_t>>& sizes, float low = -6, float high = 3) {
  std::vector<AnchorLevel> out;
  for (std::uint32_t l = 0; l < sizes.size(); ++l) {
    const auto [height, width] = sizes[l];
    out.push_back({random_tensor({images, op.anchors * op.classes, height, width}, low, high, 10 + l),
                   random_tensor({images, op.anchors * 4, height, width}, -2, 2, 20 + l)});
  }
  return out;
}

// As region proposal networks ask for.
inline SelectAnchors proposals(std::size_t levels) {
  SelectAnchors op{.strides = {}, .anchors = 3, .top = 60, .stage = 1};
  for (std::size_t l = 0; l < levels; ++l) {
    op.strides.push_back(4 << l);
    for (int a = 0; a < 3; ++a) {
      const float w = static_cast<float>(8 << l) / static_cast<float>(a + 1),
                  h = static_cast<float>(8 << l) * static_cast<float>(a + 1);
      op.cells.insert(op.cells.end(), {-w, -h, w, h});
    }
  }
  return op;
}

// As dense heads do.
inline SelectAnchors dense(std::size_t levels) {
  SelectAnchors op = proposals(levels);
  op.classes = 7, op.offset = 0.5f, op.top = 100;
  op.activation = Activation::kSigmoid, op.has_threshold = true, op.threshold = 0.3f;
  op.clip = false, op.drop_empty = false, op.group = AnchorGroup::kClass, op.stage = 2;
  return op;
}

}  // namespace osprey
