// A convolution of 8-bit integers to integers whose weight fits into a multiprocessor's shared memory and
// stays there, on a Hopper GPU: 1x1, and 3x3 of few channels. See cuda/hopper/quantized_conv_group.h, whose
// sums and results it makes.
#pragma once

#include <vector>

#include "cuda/hopper/quantized_conv_group.h"

namespace osprey {

// Outputs of a block, the widest first: those that it takes `conv` with. Empty: it does not.
std::vector<int> resident_widths(const QuantizedGroupedConv& conv);

// x is of `type`, i8 or u8.
void launch_quantized_resident(const QuantizedGroupedConv& conv, DType type, int width, int multiprocessors,
                               cudaStream_t stream);

}  // namespace osprey
