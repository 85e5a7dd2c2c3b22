// Group normalisation (Wu and He, 2018): channels in groups of neighbours, each image's group normalised over
// its channels and pixels,
//   y = activation((x - mean) / sqrt(variance + epsilon) * scale + bias),  in f32
// x [N,C,H,W] or [N,C], scale f32 [C] and bias f32 [C], weights. The variance is that of the numbers
// themselves (divided by their count), the activation ReLU or none.
#pragma once

#include "graph/enums.h"
#include "graph/infer.h"

namespace osprey {

struct GroupNorm {
  static constexpr std::string_view kName = "group_norm";
  int groups = 32;
  float epsilon = 1e-5f;
  Activation activation = Activation::kNone;
  void fields(auto&& f) { f("groups", groups), f("epsilon", epsilon), f("activation", activation); }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(3, 3);
    if (in[0].rank() == 2)
      in.expect(0, "x", kFloats, {"N", "C"});
    else
      in.expect(0, "x", kFloats, {"N", "C", "H", "W"});
    in.expect(1, "scale", {DType::kF32}, {"C"});
    in.expect(2, "bias", {DType::kF32}, {"C"});
    require(groups >= 1 && in.dim("C").constant() % groups == 0, "group_norm: {} channels in {} groups",
            in.dim("C").constant(), groups);
    require(epsilon >= 0, "group_norm: epsilon {}", epsilon);
    require(activation == Activation::kNone || activation == Activation::kRelu,
            "group_norm: only ReLU follows it");
    return in[0];
  }
};

}  // namespace osprey
