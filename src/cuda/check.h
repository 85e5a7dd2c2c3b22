// CUDA's return codes as errors of ours.
#pragma once

#include <string_view>

#include <cuda_runtime_api.h>

#include "core/error.h"

namespace osprey {

// Error(kDevice) naming what was tried; out of memory says so, with the cure.
[[noreturn]] void fail_cuda(cudaError_t code, std::string_view what);

inline void cuda_check(cudaError_t code, std::string_view what) {
  if (code != cudaSuccess) [[unlikely]]
    fail_cuda(code, what);
}

// After a kernel launch, which itself returns nothing.
inline void cuda_check_launch(std::string_view kernel) { cuda_check(cudaGetLastError(), kernel); }

}  // namespace osprey
