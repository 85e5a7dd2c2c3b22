// Enumerations that attributes of several ops share.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "core/dtype.h"

namespace osprey {

// Applied to a result before it is stored. Swish is x * sigmoid(x), ReLU6 min(max(x, 0), 6).
enum class Activation : std::uint8_t { kNone, kRelu, kSigmoid, kSwish, kRelu6 };
inline constexpr std::array<std::string_view, 5> kActivationNames{"none", "relu", "sigmoid", "swish",
                                                                  "relu6"};
constexpr const auto& enum_names(Activation) { return kActivationNames; }

// How a map is enlarged. Bilinear samples at half-pixel centres (align_corners false); with corners, the
// outermost pixels of both maps lie on each other (align_corners true).
enum class Interpolation : std::uint8_t { kNearest, kBilinear, kBilinearCorners };
inline constexpr std::array<std::string_view, 3> kInterpolationNames{"nearest", "bilinear",
                                                                     "bilinear_corners"};
constexpr const auto& enum_names(Interpolation) { return kInterpolationNames; }

// What surrounds a map under a sliding window: the pads that the op names, or TensorFlow's SAME
// (graph/infer.h).
enum class Padding : std::uint8_t { kExplicit, kSame };
inline constexpr std::array<std::string_view, 2> kPaddingNames{"explicit", "same"};
constexpr const auto& enum_names(Padding) { return kPaddingNames; }

// The element types that layers compute in.
enum class FloatType : std::uint8_t { kF32, kBF16, kF16 };
inline constexpr std::array<std::string_view, 3> kFloatTypeNames{"f32", "bf16", "f16"};
constexpr const auto& enum_names(FloatType) { return kFloatTypeNames; }
constexpr DType dtype_of(FloatType type) {
  constexpr std::array<DType, 3> kTypes{DType::kF32, DType::kBF16, DType::kF16};
  return kTypes[static_cast<std::size_t>(type)];
}

}  // namespace osprey
