// Transposed convolutions whose windows do not overlap (kernel = stride, the mask head's): every tap is a 1x1
// convolution of its own, so one convolution makes the channels of all taps, one tap after the other, which
// are then laid out as pixels.
#pragma once

#include "cpu/kernel.h"

namespace osprey {

// f32 [O] for each of the taps.
Tensor repeated_for_taps(const Tensor& of_channels, std::int64_t taps);

// Channel (i * kw + j) * O + o of `taps` at (y, x), taps of kh x kw, becomes channel o of output 0 at
// (y * kh + i, x * kw + j), from image `first` on.
void place_taps(CpuRun& run, const CpuValue& taps, std::int64_t kh, std::int64_t kw, std::int64_t first);

}  // namespace osprey
