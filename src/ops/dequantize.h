// 8-bit integers back to floats: y = x * scale. x i8 | u8 of any rank.
#pragma once

#include "graph/enums.h"
#include "ops/quantize.h"

namespace osprey {

struct Dequantize {
  static constexpr std::string_view kName = "dequantize";
  FloatType to = FloatType::kF32;
  float scale = 1;
  void fields(auto&& f) { f("to", to), f("scale", scale); }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(1, 1);
    expect_scale(kName, "scale", scale);
    const DType x = in[0].dtype;
    require(x == DType::kI8 || x == DType::kU8, "dequantize: x is {}", name_of(x));
    return {dtype_of(to), in[0].dims};
  }
};

}  // namespace osprey
