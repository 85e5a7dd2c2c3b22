// What layers of 8-bit integers multiply their sums by, as arguments of a primitive.
#pragma once

#include "cpu/onednn.h"
#include "ops/quantized_conv.h"

namespace osprey {

// x's and the weight's (input `scale`, f32, of its channels; of each of `taps`) in one: oneDNN multiplies its
// sums once.
DnnlArgument weight_scales(const CpuPrepare& prepare, std::size_t scale, float x_scale,
                           std::int64_t taps = 1);

// Such a primitive's: scales of the weight's axes in `weight_axes` (a mask) and, where the result is stored
// in integers, of the result; then the activation.
dnnl::primitive_attr integer_attributes(int weight_axes, StoredType to, Activation activation);

// Of a result that is stored in integers.
DnnlArgument result_scale(const CpuPrepare& prepare, float y_scale);

}  // namespace osprey
