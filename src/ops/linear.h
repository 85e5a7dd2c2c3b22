// Fully connected: y = activation(x weight^T + bias). x [R,I], weight [O,I], bias f32 [O]?
#pragma once

#include "graph/enums.h"
#include "graph/infer.h"

namespace osprey {

struct Linear {
  static constexpr std::string_view kName = "linear";
  Activation activation = Activation::kNone;
  bool f32_out = false;
  void fields(auto&& f) { f("activation", activation), f("f32_out", f32_out); }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(2, 3);
    in.expect(0, "x", kFloats, {"R", "I"});
    in.expect(1, "weight", kFloats, {"O", "I"});
    if (in.has(2)) in.expect(2, "bias", {DType::kF32}, {"O"});
    return {f32_out ? DType::kF32 : in[0].dtype, {in.dim("R"), in.dim("O")}};
  }
};

}  // namespace osprey
