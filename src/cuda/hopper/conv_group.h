// Convolutions that do not wait for each other in one launch, on a Hopper GPU: the levels of a head, and
// heads that read the same maps. Each is y = activation(conv(x, weight) + bias + residual), x and y channels
// last, 3x3 with borders of 1 or 1x1, f16 or bf16, summed in f32; or a part of such a sum. Predictors, which
// are 1x1 and few, may be made from y while it is still in registers.
#pragma once

#include <array>
#include <span>

#include <cuda_runtime_api.h>

#include "core/tensor.h"
#include "graph/enums.h"

namespace osprey {

inline constexpr int kMostGroupedConvs = 16;
inline constexpr int kPredictedChannels = 256, kMostPredicted = 16;  // of a map, of its predictors together

// 1x1 convolutions of a map, f32 and without an activation: one, or two that share the lanes.
struct GroupedPredictors {
  const void* weight = nullptr;  // as grouped_predictor_weight() packs it
  const float* bias = nullptr;   // kMostPredicted
  std::array<float*, 2> y{};     // [images, height, width, outputs]
  std::array<int, 2> outputs{};  // the first a multiple of 4; the second may be 0
};

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
  // Of y's type, and of its height and width divided by `residual_scale`, repeated that many times each way;
  // null: none.
  const void* residual = nullptr;
  int residual_scale = 1;
  // Made of y, which then may be null; kPredictedChannels outputs, and the same weights throughout a launch.
  GroupedPredictors predictors;
};

// Whether it is one of those, but for the pointers; with a residual of its scale; with predictors of their
// numbers of outputs.
bool can_group(const GroupedConv& conv);
bool can_add_residual(const GroupedConv& conv);
bool can_predict(const GroupedConv& conv);

// The weight, f32 [O,C,side,side] in C order, as launch_conv_group takes it, in f32: outputs in the order of
// the tensor cores' columns (padded by zeros), taps, channels last.
Tensor grouped_conv_weight(const Tensor& weight, bool f32_out);

// The weights of two predictors [O,C,1,1] of a map, the second one may be empty: f32 [kMostPredicted, C].
Tensor grouped_predictor_weight(const Tensor& first, const Tensor& second);

// All of x and weight are of `type`, f16 or bf16, and all of y of one type; all have a residual or none has,
// and so with predictors. `multiprocessors` are the device's.
void launch_conv_group(std::span<const GroupedConv> convs, DType type, int multiprocessors,
                       cudaStream_t stream);

}  // namespace osprey
