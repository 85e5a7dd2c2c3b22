// Boxes from network pixels to pixels of the original image (Detectron2's detector_postprocess): multiplied
// by the geometry's factors, then clipped to the original image, and rows that the clip left without extent
// dropped. Without `clip` (a fixed canvas, whose border boxes may reach into) boxes are only scaled.
//
// boxes f32[D,5], geometry f32[N,6] -> boxes f32[E,5] of the original image, rows i32[E]: where from
//
// `to_network` goes the other way, with proposals that were made beforehand (Detectron2's
// transform_proposals): multiplied by float32(clip extent / original extent), the quotient taken in double;
// corners put in order; clipped to the clip extents; rows dropped that have a side not above `min_size`.
// Without `clip` the factors are float32(1 / the geometry's), in double, and no row is dropped. Of what is
// left the first `top` rows of each image stay. Rows of one image are contiguous.
#pragma once

#include "graph/infer.h"

namespace osprey {

struct RescaleBoxes {
  static constexpr std::string_view kName = "rescale_boxes";
  bool clip = true;
  bool to_network = false;
  float min_size = 0;  // in pixels of the result
  int top = 0;         // rows kept of each image; 0: all
  void fields(auto&& f) {
    f("clip", clip), f("to_network", to_network), f("min_size", min_size), f("top", top);
  }

  std::vector<TensorType> infer(const OpInputs& in) const {
    in.expect_count(2, 2);
    in.expect(0, "boxes", {DType::kF32}, {"D", 5});
    in.expect(1, "geometry", {DType::kF32}, {"N", 6});
    require(top >= 0, "rescale_boxes: top {}", top);
    const Dim rows = top > 0 ? rows_for_batch(in.dim("N"), top) : Dim::at_most(in.dim("D"));
    return {{DType::kF32, {rows, 5}}, {DType::kI32, {rows}}};
  }
};

}  // namespace osprey
