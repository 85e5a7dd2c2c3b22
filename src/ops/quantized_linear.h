// Fully connected layer of 8-bit integers (ops/linear.h has the floats'):
//   sum = x weight^T                                            exact, in i32
//   y   = activation(sum * (x_scale * scale[o]) + bias[o])
// in f32; stored as a float, or as an integer as ops/quantize.h has it, with `y_scale`.
//
// x i8 | u8 [R,I], weight i8 [O,I], scale f32 [O] of the weight's rows, bias f32 [O]?
#pragma once

#include "graph/enums.h"
#include "ops/quantized_conv.h"

namespace osprey {

struct QuantizedLinear {
  static constexpr std::string_view kName = "quantized_linear";
  Activation activation = Activation::kNone;
  StoredType to = StoredType::kF32;
  float x_scale = 1, y_scale = 1;  // of integers; without meaning for floats
  void fields(auto&& f) {
    f("activation", activation), f("to", to), f("x_scale", x_scale), f("y_scale", y_scale);
  }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(3, 4);
    in.expect(0, "x", {DType::kI8, DType::kU8}, {"R", "I"});
    in.expect(1, "weight", {DType::kI8}, {"O", "I"});
    in.expect(2, "scale", {DType::kF32}, {"O"});
    if (in.has(3)) in.expect(3, "bias", {DType::kF32}, {"O"});
    expect_scale(kName, "x_scale", x_scale);
    expect_scale(kName, "y_scale", y_scale);
    return {dtype_of(to), {in.dim("R"), in.dim("O")}};
  }
};

}  // namespace osprey
