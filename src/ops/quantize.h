// To 8-bit integers with one scale for the whole value and zero at 0:
//   y = saturate(round(x / scale)), rounded to nearest, ties to even; NaN becomes the lowest integer
//
// x of any rank -> y of the same shape, i8 (-128..127) or u8 (0..255).
#pragma once

#include "graph/infer.h"

namespace osprey {

// What ops may store beside floats.
enum class IntegerType : std::uint8_t { kI8, kU8 };
inline constexpr std::array<std::string_view, 2> kIntegerTypeNames{"i8", "u8"};
constexpr const auto& enum_names(IntegerType) { return kIntegerTypeNames; }
constexpr DType dtype_of(IntegerType type) { return type == IntegerType::kI8 ? DType::kI8 : DType::kU8; }

inline void expect_scale(std::string_view op, std::string_view what, float scale) {
  require(std::isfinite(scale) && scale > 0, "{}: a {} of {}", op, what, scale);
}

struct Quantize {
  static constexpr std::string_view kName = "quantize";
  IntegerType to = IntegerType::kI8;
  float scale = 1;  // what one unit of y stands for
  void fields(auto&& f) { f("to", to), f("scale", scale); }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(1, 1);
    expect_scale(kName, "scale", scale);
    const DType x = in[0].dtype;
    require(x == DType::kF32 || x == DType::kBF16 || x == DType::kF16, "quantize: x is {}", name_of(x));
    return {dtype_of(to), in[0].dims};
  }
};

}  // namespace osprey
