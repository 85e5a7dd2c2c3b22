// Depthwise convolutions of 3x3 and 5x5 windows, with stride 1 or 2: memory-bound, so own kernels.
#pragma once

#include <memory>

#include "cuda/kernel.h"

namespace osprey {

// Null for other convolutions.
std::unique_ptr<CudaStep> depthwise_conv_step(CudaPrepare& prepare);

}  // namespace osprey
