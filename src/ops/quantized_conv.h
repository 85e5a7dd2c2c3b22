// Convolution of 8-bit integers with everything that is fused into it (ops/conv.h has the floats'):
//   sum = conv(x, weight)                                       exact, in i32
//   y   = activation(sum * (x_scale * scale[o]) + bias[o] + residual * residual_scale)
// in f32; stored as a float, or as an integer as ops/quantize.h has it, with `y_scale`.
//
// x i8 | u8 [N,C,H,W], weight i8 [O,C/groups,kh,kw], scale f32 [O] of the weight's channels, bias f32 [O]?,
// residual? of y's shape, or of that divided by `residual_upsampling` and repeated so many times each way. It
// is a float of y's type where y is one, i8 | u8 otherwise.
#pragma once

#include "graph/enums.h"
#include "ops/quantize.h"

namespace osprey {

enum class StoredType : std::uint8_t { kF32, kBF16, kF16, kI8, kU8 };
inline constexpr std::array<std::string_view, 5> kStoredTypeNames{"f32", "bf16", "f16", "i8", "u8"};
constexpr const auto& enum_names(StoredType) { return kStoredTypeNames; }
constexpr DType dtype_of(StoredType type) {
  constexpr std::array<DType, 5> kTypes{DType::kF32, DType::kBF16, DType::kF16, DType::kI8, DType::kU8};
  return kTypes[static_cast<std::size_t>(type)];
}
constexpr bool is_integer(StoredType type) { return type == StoredType::kI8 || type == StoredType::kU8; }

struct QuantizedConv {
  static constexpr std::string_view kName = "quantized_conv";
  std::vector<int> stride{1, 1}, dilation{1, 1};  // vertical, horizontal
  std::vector<int> pads{0, 0, 0, 0};              // top, left, bottom, right; without meaning under kSame
  Padding padding = Padding::kExplicit;
  int groups = 1;
  Activation activation = Activation::kNone;
  int residual_upsampling = 1;
  StoredType to = StoredType::kF32;
  float x_scale = 1, y_scale = 1, residual_scale = 1;  // of integers; without meaning for floats
  void fields(auto&& f) {
    f("stride", stride), f("dilation", dilation), f("pads", pads), f("padding", padding), f("groups", groups),
        f("activation", activation), f("residual_upsampling", residual_upsampling), f("to", to),
        f("x_scale", x_scale), f("y_scale", y_scale), f("residual_scale", residual_scale);
  }

  SlidingWindow window(std::int64_t kh, std::int64_t kw) const {
    return {{kh, kw},
            array_of<std::int64_t, 2>(stride),
            array_of<std::int64_t, 2>(dilation),
            array_of<int, 4>(pads),
            padding};
  }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(3, 5);
    in.expect(0, "x", {DType::kI8, DType::kU8}, {"N", "C", "H", "W"});
    in.expect(1, "weight", {DType::kI8}, {"O", "I", "kh", "kw"});
    in.expect(2, "scale", {DType::kF32}, {"O"});
    if (in.has(3)) in.expect(3, "bias", {DType::kF32}, {"O"});
    expect_list(kName, "stride", stride, 2, 1);
    expect_list(kName, "dilation", dilation, 2, 1);
    expect_list(kName, "pads", pads, 4, 0);
    expect_scale(kName, "x_scale", x_scale);
    expect_scale(kName, "y_scale", y_scale);
    expect_scale(kName, "residual_scale", residual_scale);
    require(groups >= 1 && in.dim("O").constant() % groups == 0, "quantized_conv: {} outputs in {} groups",
            in.dim("O").constant(), groups);
    require(in.dim("I") * groups == in.dim("C"),
            "quantized_conv: x has {} channels, but weight takes {} in {} groups", to_string(in.dim("C")),
            to_string(in.dim("I")), groups);
    const SlidingWindow over = window(in.dim("kh").constant(), in.dim("kw").constant());
    TensorType out{dtype_of(to),
                   {in.dim("N"), in.dim("O"), over.extent(0, in.dim("H")), over.extent(1, in.dim("W"))}};
    if (in.has(4)) expect_residual(in[4], out);
    return out;
  }

 private:
  void expect_residual(const TensorType& residual, const TensorType& out) const {
    require(residual_upsampling == 1 || residual_upsampling == 2, "quantized_conv: residual_upsampling {}",
            residual_upsampling);
    require(residual.rank() == 4, "quantized_conv: residual is {}", to_string(residual));
    TensorType scaled = residual;
    scaled.dims[2] = scaled.dims[2] * residual_upsampling;
    scaled.dims[3] = scaled.dims[3] * residual_upsampling;
    if (is_integer(to) && (scaled.dtype == DType::kI8 || scaled.dtype == DType::kU8))
      scaled.dtype = out.dtype;
    require(scaled == out, "quantized_conv: residual is {}, result is {}", to_string(residual),
            to_string(out));
  }
};

}  // namespace osprey
