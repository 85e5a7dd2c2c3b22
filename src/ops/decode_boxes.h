// Moves boxes by class-agnostic deltas, as a cascade does between its stages (decoding as in
// ops/select_anchors.h), and clips them to the image. No row is dropped.
// rois f32[R,5], deltas f32[R,4], geometry f32[N,6] -> f32[R,5]
#pragma once

#include "graph/infer.h"

namespace osprey {

struct DecodeBoxes {
  static constexpr std::string_view kName = "decode_boxes";
  std::vector<float> weights{10, 10, 5, 5};
  float max_log_scale = 4.1351665567f;  // ln(1000 / 16)
  bool clip = true;
  void fields(auto&& f) { f("weights", weights), f("max_log_scale", max_log_scale), f("clip", clip); }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(3, 3);
    in.expect(0, "rois", {DType::kF32}, {"R", 5});
    in.expect(1, "deltas", {DType::kF32}, {"R", 4});
    in.expect(2, "geometry", {DType::kF32}, {"N", 6});
    require(weights.size() == 4, "decode_boxes: {} weights", weights.size());
    return in[0];
  }
};

}  // namespace osprey
