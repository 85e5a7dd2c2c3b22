// Mask logits of whole photos into the original image, as COCO run lengths (DETRPostProcess of
// PaddleDetection): the logits are resized bilinearly to the photo (half-pixel centres, edges clamped), and a
// pixel is inside where their sigmoid is above the threshold.
//
// logits f32 [D,H,W], boxes f32 [E,5], rows i32 [E] (detection e shows logits[rows[e]]), geometry f32 [N,6]
//   -> runs i32 [?] (osprey/detections.h's Rle, all masks one after the other), ends i32 [E] (of each mask's)
// Of a box only the image counts.
#pragma once

#include "graph/infer.h"

namespace osprey {

struct ResizeMasks {
  static constexpr std::string_view kName = "resize_masks";
  float threshold = 0.5f;
  void fields(auto&& f) { f("threshold", threshold); }

  std::vector<TensorType> infer(const OpInputs& in) const {
    in.expect_count(4, 4);
    in.expect(0, "logits", {DType::kF32}, {"D", "H", "W"});
    in.expect(1, "boxes", {DType::kF32}, {"E", 5});
    in.expect(2, "rows", {DType::kI32}, {"E"});
    in.expect(3, "geometry", {DType::kF32}, {"N", 6});
    return {{DType::kI32, {Dim::unknown()}}, {DType::kI32, {in.dim("E")}}};
  }
};

}  // namespace osprey
