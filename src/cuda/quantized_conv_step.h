// Convolutions of integers of any window as matrix products on the tensor cores (mma.sync), and a plain
// kernel for grouped ones.
#pragma once

#include <memory>

#include "cuda/kernel.h"

namespace osprey {

std::unique_ptr<CudaStep> quantized_matrix_step(CudaPrepare& prepare);

}  // namespace osprey
