// Convolution (cross-correlation) with everything that is fused into it:
//   y = activation((conv(x, weight) + bias) * factor + offset + residual)
//
// x [N,C,H,W], weight [O,C/groups,kh,kw], bias f32 [O]?, residual? of y's shape, or of y's shape divided by
// `residual_scale`, repeated that many times each way (nearest): a feature pyramid's top-down path. factor
// and offset f32 [O]?, both or neither: a normalisation that stays out of the weights
// (BatchNorm::exact_factor); on the CPU alone.
//
// A depthwise convolution has as many groups as x has channels.
#pragma once

#include "graph/enums.h"
#include "graph/infer.h"

namespace osprey {

struct Conv {
  static constexpr std::string_view kName = "conv";
  std::vector<int> stride{1, 1}, dilation{1, 1};  // vertical, horizontal
  std::vector<int> pads{0, 0, 0, 0};              // top, left, bottom, right; without meaning under kSame
  Padding padding = Padding::kExplicit;
  int groups = 1;
  Activation activation = Activation::kNone;
  int residual_scale = 1;
  bool f32_out = false;  // y is f32 whatever x is: scores and box deltas
  void fields(auto&& f) {
    f("stride", stride), f("dilation", dilation), f("pads", pads), f("padding", padding), f("groups", groups),
        f("activation", activation), f("residual_scale", residual_scale), f("f32_out", f32_out);
  }

  SlidingWindow window(std::int64_t kh, std::int64_t kw) const {
    return {{kh, kw},
            array_of<std::int64_t, 2>(stride),
            array_of<std::int64_t, 2>(dilation),
            array_of<int, 4>(pads),
            padding};
  }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(2, 6);
    in.expect(0, "x", kFloats, {"N", "C", "H", "W"});
    in.expect(1, "weight", kFloats, {"O", "I", "kh", "kw"});
    if (in.has(2)) in.expect(2, "bias", {DType::kF32}, {"O"});
    expect_list(kName, "stride", stride, 2, 1);
    expect_list(kName, "dilation", dilation, 2, 1);
    expect_list(kName, "pads", pads, 4, 0);
    require(groups >= 1 && in.dim("O").constant() % groups == 0, "conv: {} outputs in {} groups",
            in.dim("O").constant(), groups);
    require(in.dim("I") * groups == in.dim("C"), "conv: x has {} channels, but weight takes {} in {} groups",
            to_string(in.dim("C")), to_string(in.dim("I")), groups);
    const SlidingWindow over = window(in.dim("kh").constant(), in.dim("kw").constant());
    TensorType out{f32_out ? DType::kF32 : in[0].dtype,
                   {in.dim("N"), in.dim("O"), over.extent(0, in.dim("H")), over.extent(1, in.dim("W"))}};
    if (in.has(3)) expect_residual(in[3], out);
    require(in.has(4) == in.has(5), "conv: a factor and an offset go together");
    if (in.has(4)) in.expect(4, "factor", {DType::kF32}, {"O"});
    if (in.has(5)) in.expect(5, "offset", {DType::kF32}, {"O"});
    return out;
  }

 private:
  void expect_residual(const TensorType& residual, const TensorType& out) const {
    require(residual_scale == 1 || residual_scale == 2, "conv: residual_scale {}", residual_scale);
    TensorType scaled = residual;
    require(scaled.rank() == 4, "conv: residual is {}", to_string(residual));
    scaled.dims[2] = scaled.dims[2] * residual_scale;
    scaled.dims[3] = scaled.dims[3] * residual_scale;
    require(scaled == out, "conv: residual is {}, result is {}", to_string(residual), to_string(out));
  }
};

}  // namespace osprey
