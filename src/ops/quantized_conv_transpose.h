// Transposed convolution of 8-bit integers (ops/conv_transpose.h has the floats') whose windows do not
// overlap: their extents are the strides.
//   sum = conv_transpose(x, weight)                             exact, in i32
//   y   = activation(sum * (x_scale * scale[o]) + bias[o])
// in f32; stored as a float, or as an integer as ops/quantize.h has it, with `y_scale`.
//
// x i8 | u8 [N,C,H,W], weight i8 [O,C,kh,kw] (not the floats' order), scale f32 [O] of the weight's channels,
// bias f32 [O]?  ->  [N, O, H*kh, W*kw]
#pragma once

#include "graph/enums.h"
#include "ops/quantized_conv.h"

namespace osprey {

struct QuantizedConvTranspose {
  static constexpr std::string_view kName = "quantized_conv_transpose";
  Activation activation = Activation::kNone;
  StoredType to = StoredType::kF32;
  float x_scale = 1, y_scale = 1;  // of integers; without meaning for floats
  void fields(auto&& f) {
    f("activation", activation), f("to", to), f("x_scale", x_scale), f("y_scale", y_scale);
  }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(3, 4);
    in.expect(0, "x", {DType::kI8, DType::kU8}, {"N", "C", "H", "W"});
    in.expect(1, "weight", {DType::kI8}, {"O", "C", "kh", "kw"});
    in.expect(2, "scale", {DType::kF32}, {"O"});
    if (in.has(3)) in.expect(3, "bias", {DType::kF32}, {"O"});
    expect_scale(kName, "x_scale", x_scale);
    expect_scale(kName, "y_scale", y_scale);
    return {dtype_of(to),
            {in.dim("N"), in.dim("O"), in.dim("H") * in.dim("kh").constant(),
             in.dim("W") * in.dim("kw").constant()}};
  }
};

}  // namespace osprey
