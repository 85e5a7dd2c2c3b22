// Mask logits as products of embeddings with an image's prototypes (MaskDINO, Li et al., 2023): per pixel,
// the sum over the channels, in f32.
// embeddings [M,P], prototypes [N,P,H,W], boxes f32 [M,5]? -> f32 [M,H,W]
// The first number of a row of `boxes` is its image; without them each image has M / N rows.
#pragma once

#include "graph/infer.h"

namespace osprey {

struct MaskLogits {
  static constexpr std::string_view kName = "mask_logits";
  void fields(auto&&) {}

  TensorType infer(const OpInputs& in) const {
    in.expect_count(2, 3);
    in.expect(0, "embeddings", kFloats, {"M", "P"});
    in.expect(1, "prototypes", kFloats, {"N", "P", "H", "W"});
    require(in[0].dtype == in[1].dtype, "mask_logits: {} beside {}", to_string(in[0]), to_string(in[1]));
    if (in.has(2)) in.expect(2, "boxes", {DType::kF32}, {"M", 5});
    return {DType::kF32, {in.dim("M"), in.dim("H"), in.dim("W")}};
  }
};

}  // namespace osprey
