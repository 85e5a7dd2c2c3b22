// How device memory is divided among what shares a piece of it.
#pragma once

#include <cstddef>

namespace osprey {

inline constexpr std::size_t kDeviceAlignment = 256;  // as cudaMalloc gives it

constexpr std::size_t device_aligned(std::size_t bytes) {
  return (bytes + kDeviceAlignment - 1) / kDeviceAlignment * kDeviceAlignment;
}

}  // namespace osprey
