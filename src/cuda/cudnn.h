// Convolutions through cuDNN's graph API: y = activation(conv(x, weight) + bias + residual), everything
// channels last. The library is opened at run time; its heavy headers stay in cudnn.cpp.
//
// f16 and bf16 are summed in f32, and so is f32, of which the operands are rounded to tf32 only if asked for.
#pragma once

#include <array>

#include "cuda/matrix_call.h"
#include "cuda/tuner.h"
#include "graph/enums.h"

namespace osprey {

struct CudnnConv {
  DType type = DType::kF32, out_type = DType::kF32;  // of x and weight; of residual and y
  std::array<std::int64_t, 4> x{}, weight{}, y{};    // N,C,H,W; O,C/groups,kh,kw; N,O,H,W
  std::array<std::int64_t, 2> stride{1, 1}, dilation{1, 1}, pads_before{}, pads_after{};
  bool bias = false, residual = false, tf32 = false;  // bias is f32
  Activation activation = Activation::kNone;

  std::string key() const;
};

// In the order of cuDNN's heuristics; none where it supports no such graph. Making some of them compiles
// code, which takes about a second. Error(kDevice) when the library is missing.
std::vector<MatrixWay> cudnn_ways(const CudnnConv& conv);

// From what MatrixCall::saved() gave, in milliseconds; null when cuDNN does not take it.
std::unique_ptr<MatrixCall> restored_cudnn_call(const CudnnConv& conv, const TunedChoice& choice);

// 91900, or 0 where the library is missing.
std::size_t cudnn_version();

}  // namespace osprey
