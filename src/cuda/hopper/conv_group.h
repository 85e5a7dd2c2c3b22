// Convolutions that do not wait for each other in one launch, on a Hopper GPU: the levels of a head, and
// heads that read the same maps. Each is y = activation(conv(x, weight) + bias), x and y channels last, 3x3
// with borders of 1 or 1x1, f16 or bf16, summed in f32; or a part of such a sum.
#pragma once

#include <span>

#include <cuda_runtime_api.h>

#include "core/tensor.h"
#include "graph/enums.h"

namespace osprey {

inline constexpr int kMostGroupedConvs = 16;

struct GroupedConv {
  const void* x = nullptr;       // [images, height, width, channels]
  const void* weight = nullptr;  // as grouped_conv_weight() packs it
  const float* bias = nullptr;   // null: none
  void* y = nullptr;             // [images, height / stride, width / stride, outputs], rounded up
  std::int64_t images = 0, height = 0, width = 0, channels = 0, outputs = 0;
  int side = 1;                 // of the window, 1 or 3
  int stride = 1;               // or 2
  int top = 1, left = 1;        // border before a map, of a window of 3
  int first_tap = 0, taps = 0;  // of the window, row after row; taps: how many, 0 for all
  bool f32_out = false;         // y is f32 whatever x is
  Activation activation = Activation::kNone;
};

// Whether it is one of those, but for the pointers.
bool can_group(const GroupedConv& conv);

// The weight, f32 [O,C,side,side] in C order, as launch_conv_group takes it, in f32: outputs in the order of
// the tensor cores' columns (padded by zeros), taps, channels last.
Tensor grouped_conv_weight(const Tensor& weight, bool f32_out);

// All of x and weight are of `type`, f16 or bf16, and all of y of one type. `multiprocessors` are the
// device's.
void launch_conv_group(std::span<const GroupedConv> convs, DType type, int multiprocessors,
                       cudaStream_t stream);

}  // namespace osprey
