// Sums of a map's channels as integers: they are the same in whatever order and division their parts come, so
// that a photo's do not depend on those beside it, and blocks may add to them as they end.
#pragma once

#include <cmath>
#include <cstdint>

namespace osprey::channel_sums {

inline constexpr float kUnits = 1 << 24;  // of a sum that is one

// The largest part, in size, that `parts` of may be added without an overflow.
inline float largest_part(std::int64_t parts) {
  return std::ldexp(1.0f, 62) / kUnits / static_cast<float>(parts);
}

// What is larger counts as the largest. NaN counts as a number, but the map still has it.
__device__ inline long long units_of(float part, float largest) {
  return __float2ll_rn(fminf(fmaxf(part, -largest), largest) * kUnits);
}

__device__ inline float mean_of(long long units, int pixels) {
  return static_cast<float>(static_cast<double>(units) / (static_cast<double>(kUnits) * pixels));
}

}  // namespace osprey::channel_sums
