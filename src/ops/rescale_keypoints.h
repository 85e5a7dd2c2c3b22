// Keypoints of the kept rows in pixels of the original image: x and y multiplied by the geometry's factors,
// as Detectron2 scales them (no clipping).
// keypoints f32[D,K,4], boxes f32[E,5] (whose images count), rows i32[E], geometry f32[N,6]
//   -> f32[E,K,3]: x, y, score, or with `logits` (maskrcnn-benchmark) the logit instead of the score
#pragma once

#include "graph/infer.h"

namespace osprey {

struct RescaleKeypoints {
  static constexpr std::string_view kName = "rescale_keypoints";
  bool logits = false;
  void fields(auto&& f) { f("logits", logits); }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(4, 4);
    in.expect(0, "keypoints", {DType::kF32}, {"D", "K", 4});
    in.expect(1, "boxes", {DType::kF32}, {"E", 5});
    in.expect(2, "rows", {DType::kI32}, {"E"});
    in.expect(3, "geometry", {DType::kF32}, {"N", 6});
    return {DType::kF32, {in.dim("E"), in.dim("K"), 3}};
  }
};

}  // namespace osprey
