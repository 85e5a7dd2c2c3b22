// Keypoints from heat maps (Detectron2's heatmaps_to_keypoints): each box's map is enlarged (bicubic,
// align_corners false, a = -0.75) to ceil(max(w, 1)) x ceil(max(h, 1)); the first maximum in row-major order
// wins; coordinate = (index + 0.5) * w / ceil(w) + x0. The score is exp(max - max) / sum over the SMALL map
// of exp(logit - max of the enlarged map), so it can exceed a softmax.
//
// heatmaps f32[D,K,S,S], rois f32[D,5] -> f32[D,K,4]: x, y, logit, score in network pixels
#pragma once

#include "graph/infer.h"

namespace osprey {

struct DecodeKeypoints {
  static constexpr std::string_view kName = "decode_keypoints";
  void fields(auto&&) {}

  TensorType infer(const OpInputs& in) const {
    in.expect_count(2, 2);
    in.expect(0, "heatmaps", {DType::kF32}, {"D", "K", "S", "S"});
    in.expect(1, "rois", {DType::kF32}, {"D", 5});
    return {DType::kF32, {in.dim("D"), in.dim("K"), 4}};
  }
};

}  // namespace osprey
