// From network pixels to pixels of the original image (Detectron2's detector_postprocess): multiplied by the
// geometry's factors, then clipped to the original image, and rows that the clip left without extent dropped.
// Without `clip` (a fixed canvas, whose border boxes may reach into) boxes are only scaled.
//
// boxes f32[D,5], geometry f32[N,6] -> boxes f32[E,5] of the original image, rows i32[E]: where from
#pragma once

#include "graph/infer.h"

namespace osprey {

struct RescaleBoxes {
  static constexpr std::string_view kName = "rescale_boxes";
  bool clip = true;
  void fields(auto&& f) { f("clip", clip); }

  std::vector<TensorType> infer(const OpInputs& in) const {
    in.expect_count(2, 2);
    in.expect(0, "boxes", {DType::kF32}, {"D", 5});
    in.expect(1, "geometry", {DType::kF32}, {"N", 6});
    const Dim rows = Dim::at_most(in.dim("D"));
    return {{DType::kF32, {rows, 5}}, {DType::kI32, {rows}}};
  }
};

}  // namespace osprey
