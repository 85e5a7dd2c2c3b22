// The box around the pixels of a mask whose logit is above 0, as logits of (cx, cy, w, h) in 0..1: what
// Mask RT-DETR's decoder starts from (mask_to_box_coordinate and inverse_sigmoid of PaddleDetection's
// modeling/transformers/utils.py). The far edges lie behind the last pixel; an empty mask is a box of zeros.
// logit(v) is log(max(v, 1e-5) / max(1 - v, 1e-5)).
// logits f32 [M,H,W] -> f32 [M,4]
#pragma once

#include "graph/infer.h"

namespace osprey {

struct MaskBoxes {
  static constexpr std::string_view kName = "mask_boxes";
  void fields(auto&&) {}

  TensorType infer(const OpInputs& in) const {
    in.expect_count(1, 1);
    in.expect(0, "logits", {DType::kF32}, {"M", "H", "W"});
    return {DType::kF32, {in.dim("M"), 4}};
  }
};

}  // namespace osprey
