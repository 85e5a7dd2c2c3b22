// Transposed convolution: y = activation(conv_transpose(x, weight) + bias), of extent
// (in - 1) * stride - pads + kernel.
// x [N,C,H,W], weight [C,O,kh,kw] (PyTorch's order), bias f32 [O]?
#pragma once

#include "graph/enums.h"
#include "graph/infer.h"

namespace osprey {

struct ConvTranspose {
  static constexpr std::string_view kName = "conv_transpose";
  std::vector<int> stride{2, 2};      // vertical, horizontal
  std::vector<int> pads{0, 0, 0, 0};  // top, left, bottom, right, cut from the result
  Activation activation = Activation::kNone;
  bool f32_out = false;
  void fields(auto&& f) {
    f("stride", stride), f("pads", pads), f("activation", activation), f("f32_out", f32_out);
  }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(2, 3);
    in.expect(0, "x", kFloats, {"N", "C", "H", "W"});
    in.expect(1, "weight", kFloats, {"C", "O", "kh", "kw"});
    if (in.has(2)) in.expect(2, "bias", {DType::kF32}, {"O"});
    expect_list(kName, "stride", stride, 2, 1);
    expect_list(kName, "pads", pads, 4, 0);
    const Dim h = (in.dim("H") - 1) * stride[0] + (in.dim("kh").constant() - pads[0] - pads[2]);
    const Dim w = (in.dim("W") - 1) * stride[1] + (in.dim("kw").constant() - pads[1] - pads[3]);
    return {f32_out ? DType::kF32 : in[0].dtype, {in.dim("N"), in.dim("O"), h, w}};
  }
};

}  // namespace osprey
