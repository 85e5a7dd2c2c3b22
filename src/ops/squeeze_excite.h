// Squeeze and excitation (Hu et al., 2018): every channel of a map times a gate between 0 and 1, which two
// fully connected layers make of the channels' means:
//   y = x * sigmoid(expand * activation(squeeze * mean(x) + squeeze_bias) + expand_bias)
//
// x [N,C,H,W], squeeze [S,C], squeeze_bias f32 [S], expand [C,S], expand_bias f32 [C]. All between x and y is
// f32. Made by a pass of the ops that it stands for.
#pragma once

#include "graph/enums.h"
#include "graph/infer.h"

namespace osprey {

struct SqueezeExcite {
  static constexpr std::string_view kName = "squeeze_excite";
  Activation activation = Activation::kSwish;
  void fields(auto&& f) { f("activation", activation); }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(5, 5);
    in.expect(0, "x", kFloats, {"N", "C", "H", "W"});
    in.expect(1, "squeeze", kFloats, {"S", "C"});
    in.expect(2, "squeeze_bias", {DType::kF32}, {"S"});
    in.expect(3, "expand", kFloats, {"C", "S"});
    in.expect(4, "expand_bias", {DType::kF32}, {"C"});
    return in[0];
  }
};

}  // namespace osprey
