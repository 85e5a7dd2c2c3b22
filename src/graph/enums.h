// Enumerations that attributes of several ops share.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace osprey {

// Applied to a result before it is stored. Swish is x * sigmoid(x).
enum class Activation : std::uint8_t { kNone, kRelu, kSigmoid, kSwish };
inline constexpr std::array<std::string_view, 4> kActivationNames{"none", "relu", "sigmoid", "swish"};
constexpr const auto& enum_names(Activation) { return kActivationNames; }

// How a map is enlarged. Bilinear samples at half-pixel centres (align_corners false).
enum class Interpolation : std::uint8_t { kNearest, kBilinear };
inline constexpr std::array<std::string_view, 2> kInterpolationNames{"nearest", "bilinear"};
constexpr const auto& enum_names(Interpolation) { return kInterpolationNames; }

}  // namespace osprey
