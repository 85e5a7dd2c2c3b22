// Predictors of few outputs on a Hopper GPU: convolutions of 3x3 of 8-bit integers to f32, of the levels of a
// pyramid, which share a weight. It stays in a multiprocessor's shared memory, and maps are read once instead
// of once for each tap.
#pragma once

#include <span>

#include "cuda/hopper/quantized_conv_group.h"

namespace osprey {

// Whether the kernel takes it, with others of the same weight.
bool is_small_predictor(const QuantizedGroupedConv& conv);

// As quantized_grouped_weight() and quantized_grouped_terms(): what the convolutions of a launch point to.
Tensor quantized_predictor_weight(const Tensor& weight);
Tensor quantized_predictor_terms(const QuantizedGroupedConv& conv, const Tensor& scale, const Tensor& bias,
                                 float x_scale);

// All have the same weight, x of `type`, i8 or u8.
void launch_quantized_predictors(std::span<const QuantizedGroupedConv> convs, DType type, int multiprocessors,
                                 cudaStream_t stream);

}  // namespace osprey
