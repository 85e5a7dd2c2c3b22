// Enlarges maps by a whole factor. Nearest repeats pixels; bilinear is PyTorch's interpolate with
// align_corners false: source = (index + 0.5) / scale - 0.5, not below 0. x [N,C,H,W].
#pragma once

#include "graph/enums.h"
#include "graph/infer.h"

namespace osprey {

struct Upsample {
  static constexpr std::string_view kName = "upsample";
  Interpolation mode = Interpolation::kNearest;
  int scale = 2;
  void fields(auto&& f) { f("mode", mode), f("scale", scale); }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(1, 1);
    in.expect(0, "x", kFloats, {"N", "C", "H", "W"});
    require(scale >= 1, "upsample: scale {}", scale);
    return {in[0].dtype, {in.dim("N"), in.dim("C"), in.dim("H") * scale, in.dim("W") * scale}};
  }
};

}  // namespace osprey
