// What layers of 8-bit integers multiply their sums by, as arguments of a primitive.
#pragma once

#include "cpu/onednn.h"

namespace osprey {

// x's and the weight's (input `scale`, f32, of its channels; of each of `taps`) in one: oneDNN multiplies its
// sums once.
DnnlArgument weight_scales(const CpuPrepare& prepare, std::size_t scale, float x_scale,
                           std::int64_t taps = 1);

// Of a result that is stored in integers.
DnnlArgument result_scale(const CpuPrepare& prepare, float y_scale);

}  // namespace osprey
