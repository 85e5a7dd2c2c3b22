// The first convolution of a network, over three channels, where libraries pad to eight, with stride 2 in f16
// or bf16.
#pragma once

#include <memory>

#include "cuda/kernel.h"

namespace osprey {

// A step for this conv node, or null where it is another convolution: 7x7 with stride 2 and 3 pixels around,
// from 3 channels to a multiple of 64, f16 or bf16 in and out (or quantised from that), a width that is a
// multiple of 8, no residual, no activation but ReLU and ReLU6.
std::unique_ptr<CudaStep> stem_conv_step(CudaPrepare& prepare);
bool is_stem_conv(const CudaPrepare& prepare);

// The same for 3x3 with any pads and activation, to a multiple of 8 outputs up to 128.
std::unique_ptr<CudaStep> small_stem_conv_step(CudaPrepare& prepare);
bool is_small_stem_conv(const CudaPrepare& prepare);

}  // namespace osprey
