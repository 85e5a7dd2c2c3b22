// Convolutions of integers of one pixel whose time is latency: on maps so small that there is hardly a sum
// for each thread of the device.
#pragma once

#include <memory>

#include "cuda/kernel.h"

namespace osprey {

inline constexpr std::string_view kQuantized1x1 = "own 1x1";

// Whether the kernel takes it, and whether all of its blocks run at once.
bool is_quantized_1x1(const CudaPrepare& prepare);
bool is_short_quantized_1x1(const CudaPrepare& prepare);

std::unique_ptr<CudaStep> quantized_1x1_step(CudaPrepare& prepare);

}  // namespace osprey
