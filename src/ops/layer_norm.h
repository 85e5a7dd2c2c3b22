// Layer normalisation (Ba et al., 2016) of each row of x + residual:
//   (v - mean) / sqrt(variance + epsilon) * scale + bias,  in f32
// x [R,C], scale f32 [C] and bias f32 [C], weights, residual [R,C]?
#pragma once

#include "graph/infer.h"

namespace osprey {

struct LayerNorm {
  static constexpr std::string_view kName = "layer_norm";
  float epsilon = 1e-5f;
  void fields(auto&& f) { f("epsilon", epsilon); }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(3, 4);
    in.expect(0, "x", kFloats, {"R", "C"});
    in.expect(1, "scale", {DType::kF32}, {"C"});
    in.expect(2, "bias", {DType::kF32}, {"C"});
    if (in.has(3))
      require(in[3] == in[0], "layer_norm: residual is {}, x is {}", to_string(in[3]), to_string(in[0]));
    require(epsilon >= 0, "layer_norm: epsilon {}", epsilon);
    return in[0];
  }
};

}  // namespace osprey
