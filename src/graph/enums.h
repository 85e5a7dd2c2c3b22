// Enumerations that attributes of several ops share.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "core/dtype.h"

namespace osprey {

// Applied to a result before it is stored. Swish is x * sigmoid(x).
enum class Activation : std::uint8_t { kNone, kRelu, kSigmoid, kSwish };
inline constexpr std::array<std::string_view, 4> kActivationNames{"none", "relu", "sigmoid", "swish"};
constexpr const auto& enum_names(Activation) { return kActivationNames; }

// How a map is enlarged. Bilinear samples at half-pixel centres (align_corners false).
enum class Interpolation : std::uint8_t { kNearest, kBilinear };
inline constexpr std::array<std::string_view, 2> kInterpolationNames{"nearest", "bilinear"};
constexpr const auto& enum_names(Interpolation) { return kInterpolationNames; }

// The element types that layers compute in.
enum class FloatType : std::uint8_t { kF32, kBF16, kF16 };
inline constexpr std::array<std::string_view, 3> kFloatTypeNames{"f32", "bf16", "f16"};
constexpr const auto& enum_names(FloatType) { return kFloatTypeNames; }
constexpr DType dtype_of(FloatType type) {
  constexpr std::array<DType, 3> kTypes{DType::kF32, DType::kBF16, DType::kF16};
  return kTypes[static_cast<std::size_t>(type)];
}

}  // namespace osprey
