// What layers of 8-bit integers multiply their sums by, as arguments of a primitive.
#pragma once

#include "cpu/onednn.h"

namespace osprey {

// x's and the weight's (input `scale`, f32, of its channels) in one: oneDNN multiplies its sums once.
DnnlArgument weight_scales(const CpuPrepare& prepare, std::size_t scale, float x_scale);

// Of a result that is stored in integers.
DnnlArgument result_scale(const CpuPrepare& prepare, float y_scale);

}  // namespace osprey
