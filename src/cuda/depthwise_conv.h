// Depthwise convolutions of 3x3 and 5x5 windows, with stride 1 or 2: memory-bound, so own kernels.
#pragma once

#include <memory>
#include <span>

#include "cuda/kernel.h"
#include "ops/conv.h"

namespace osprey {

inline constexpr std::size_t kMostDepthwise = 16;  // in one launch

// Whether a convolution without a residual, of that weight and as many channels, is one of these.
bool is_depthwise_step(const Conv& op, const Shape& weight, std::int64_t channels);

// Null for other convolutions.
std::unique_ptr<CudaStep> depthwise_conv_step(CudaPrepare& prepare);

// One that also adds what its channels sum up to in each photo to sums[lane, photo, channel], in the units of
// cuda/channel_sums.cuh; sums of results as they are before they are rounded.
std::unique_ptr<CudaStep> summed_depthwise_step(CudaPrepare& prepare, long long* sums);

// Those that do not wait for each other in one launch, all of them of one type, window and stride. The step's
// inputs and outputs are those of all members, one after the other.
std::unique_ptr<CudaStep> depthwise_conv_step(std::span<CudaPrepare* const> members);

}  // namespace osprey
