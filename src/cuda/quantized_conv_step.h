// Convolutions of integers of any window as matrix products on the tensor cores (mma.sync), and a plain
// kernel for grouped ones.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cuda/kernel.h"

namespace osprey {

// The names of ways to compute it, the most promising first; the results are the same.
std::vector<std::string> quantized_matrix_ways(const CudaPrepare& prepare);

std::unique_ptr<CudaStep> quantized_matrix_step(CudaPrepare& prepare, const std::string& way);

// Input `i`, f32 of the outputs, each times `factor`, and zeros for those that pad them to whole tiles.
std::shared_ptr<const DeviceBuffer> quantized_constants(const CudaPrepare& prepare, std::size_t i,
                                                        float factor);

}  // namespace osprey
