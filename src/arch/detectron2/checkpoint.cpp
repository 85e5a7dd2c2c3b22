#include "arch/detectron2/checkpoint.h"

#include <algorithm>
#include <array>

namespace osprey::detectron2 {

bool is_detectron2(const Checkpoint& checkpoint) {
  constexpr std::array<std::string_view, 3> kOwn{"proposal_generator.rpn_head.", "backbone.fpn_lateral",
                                                 "roi_heads.box_predictor."};
  return std::any_of(checkpoint.tensors.begin(), checkpoint.tensors.end(), [&](const NamedTensor& t) {
    std::string_view name = t.name;
    if (name.starts_with("module.")) name.remove_prefix(7);
    return std::any_of(kOwn.begin(), kOwn.end(), [&](std::string_view own) { return name.starts_with(own); });
  });
}

bool is_leftover(const std::string& name) {
  return name == "pixel_mean" || name == "pixel_std" || name.ends_with(".num_batches_tracked") ||
         name.starts_with("proposal_generator.anchor_generator.cell_anchors.") ||
         name.starts_with("anchor_generator.cell_anchors.");
}

}  // namespace osprey::detectron2
