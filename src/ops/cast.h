// Changes the element type of floats; narrowing rounds to nearest even.
#pragma once

#include "graph/infer.h"

namespace osprey {

enum class FloatType : std::uint8_t { kF32, kBF16, kF16 };
inline constexpr std::array<std::string_view, 3> kFloatTypeNames{"f32", "bf16", "f16"};
constexpr const auto& enum_names(FloatType) { return kFloatTypeNames; }

struct Cast {
  static constexpr std::string_view kName = "cast";
  FloatType to = FloatType::kF32;
  void fields(auto&& f) { f("to", to); }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(1, 1);
    constexpr DType kTypes[]{DType::kF32, DType::kBF16, DType::kF16};
    return {kTypes[static_cast<std::size_t>(to)], in[0].dims};
  }
};

}  // namespace osprey
