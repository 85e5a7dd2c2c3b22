// Moves boxes in logit space, as the decoders of DETRs refine theirs: sigmoid(delta + logit(box)), where
// logit(v) is log(max(v, epsilon) / max(1 - v, epsilon)) of v held in 0..1.
// deltas f32 [R,4], boxes f32 [R,4] (cx, cy, w, h in 0..1) -> f32 [R,4]
#pragma once

#include "graph/infer.h"

namespace osprey {

struct RefineBoxes {
  static constexpr std::string_view kName = "refine_boxes";
  float epsilon = 1e-5f;
  void fields(auto&& f) { f("epsilon", epsilon); }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(2, 2);
    in.expect(0, "deltas", {DType::kF32}, {"R", 4});
    in.expect(1, "boxes", {DType::kF32}, {"R", 4});
    require(epsilon > 0, "refine_boxes: epsilon {}", epsilon);
    return in[1];
  }
};

}  // namespace osprey
