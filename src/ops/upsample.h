// Enlarges maps, by a whole factor or to a given size. x [N,C,H,W]; nearest takes 8-bit integers, too.
//
// With a factor, nearest repeats pixels, and bilinear is PyTorch's interpolate with align_corners false:
// source = (index + 0.5) / scale - 0.5, not below 0.
//
// To a size, the factor of an axis is the f32 quotient in / out, and sizes below the input's are taken too:
// nearest reads floor(index * factor) (TensorFlow's legacy resize_nearest_neighbor), bilinear is as above,
// and bilinear_corners reads at index * ((in - 1) / (out - 1)).
#pragma once

#include "graph/element_types.h"
#include "graph/enums.h"
#include "graph/infer.h"

namespace osprey {

struct Upsample {
  static constexpr std::string_view kName = "upsample";
  Interpolation mode = Interpolation::kNearest;
  int scale = 2;
  int height = 0, width = 0;  // of the result, both or neither; then `scale` has no meaning
  void fields(auto&& f) { f("mode", mode), f("scale", scale), f("height", height), f("width", width); }

  bool sized() const { return height != 0; }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(1, 1);
    in.expect(0, "x", mode == Interpolation::kNearest ? kStored : kFloats, {"N", "C", "H", "W"});
    require(scale >= 1, "upsample: scale {}", scale);
    require(height >= 0 && width >= 0 && (height == 0) == (width == 0), "upsample: to {} x {}", height,
            width);
    if (sized()) return {in[0].dtype, {in.dim("N"), in.dim("C"), height, width}};
    return {in[0].dtype, {in.dim("N"), in.dim("C"), in.dim("H") * scale, in.dim("W") * scale}};
  }
};

}  // namespace osprey
