// Depthwise convolutions of 8-bit integers, with the windows of cuda/depthwise_conv.h.
#pragma once

#include <memory>
#include <span>

#include "cuda/depthwise_conv.h"
#include "ops/quantized_conv.h"

namespace osprey {

// Whether a convolution without a residual, of that weight and as many channels, is one of these.
bool is_quantized_depthwise(const QuantizedConv& op, const Shape& weight, std::int64_t channels);

// Null for other convolutions.
std::unique_ptr<CudaStep> quantized_depthwise_step(CudaPrepare& prepare);

// At most kMostDepthwise that do not wait for each other in one launch, all of them of one type, window and
// stride. The step's inputs and outputs are those of all members, one after the other.
std::unique_ptr<CudaStep> quantized_depthwise_step(std::span<CudaPrepare* const> members);

}  // namespace osprey
