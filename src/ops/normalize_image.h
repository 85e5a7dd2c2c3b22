// From resized photos to the network's input: (x * scale - mean) / std in float32, THEN zero padding to the
// right and below, to a multiple (Detectron2's ImageList) or to a canvas whose border holds `fill` before
// normalisation. Channels keep the order they come in.
//
// With f32 pixels (ops/resize_image.h's TensorFlow rules, zero around the photo) the whole of `resized` is
// the picture: (x * scale - mean) / std, or x * scale where mean and std are empty; what the canvas or the
// multiple adds to it is zero. So a photo that was padded raw (TensorFlow's Faster R-CNN) is normalised with
// its padding, and one that was normalised first (SSD, EfficientDet) passes as it is.
//
// resized u8 | f32[N,rh,rw,3], geometry f32[N,6] -> [N,3,H,W] of type `to`, rounded last
#pragma once

#include "graph/enums.h"
#include "graph/infer.h"

namespace osprey {

struct NormalizeImage {
  static constexpr std::string_view kName = "normalize_image";
  std::vector<float> mean{0, 0, 0}, std{1, 1, 1};
  std::vector<float> fill{0, 0, 0};         // of the canvas border, in the channels' order, 0..255
  int multiple = 1;                         // height and width become multiples of this; unused with a canvas
  int canvas_height = 0, canvas_width = 0;  // 0: no canvas
  FloatType to = FloatType::kF32;
  float scale = 1;
  bool stretched = false;  // 8-bit photos fill their canvas (Fit::kStretch)
  void fields(auto&& f) {
    f("mean", mean), f("std", std), f("fill", fill), f("multiple", multiple),
        f("canvas_height", canvas_height), f("canvas_width", canvas_width), f("to", to), f("scale", scale),
        f("stretched", stretched);
  }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(2, 2);
    in.expect(0, "resized", {DType::kU8, DType::kF32}, {"N", "rh", "rw", 3});
    in.expect(1, "geometry", {DType::kF32}, {"N", 6});
    const bool plain = in[0].dtype == DType::kF32 && mean.empty() && std.empty();
    require(plain || (mean.size() == 3 && std.size() == 3), "normalize_image: mean and std need 3 numbers");
    require(fill.size() == 3, "normalize_image: fill needs 3 numbers");
    for (const float s : std) require(s > 0, "normalize_image: a standard deviation of {}", s);
    require(multiple >= 1, "normalize_image: multiple {}", multiple);
    require(!stretched || canvas_height > 0, "normalize_image: a photo is stretched to a canvas");
    if (canvas_height > 0) return {dtype_of(to), {in.dim("N"), 3, canvas_height, canvas_width}};
    return {dtype_of(to), {in.dim("N"), 3, Dim::symbol("h") * multiple, Dim::symbol("w") * multiple}};
  }
};

}  // namespace osprey
