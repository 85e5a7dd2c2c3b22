// A depthwise convolution of 3x3 and the 1x1 convolution behind it in one launch (a separable convolution),
// of several maps at once; or of one, with the weighted sum before them. What lies between is rounded to
// fp16, as it would be stored, so that results are those of separate launches but for the order of the 1x1's
// f32 sums, which depends on nothing but the number of channels.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <cuda_runtime_api.h>

#include "graph/enums.h"

namespace osprey {

inline constexpr std::size_t kMostSeparable = 16;        // in one launch
inline constexpr std::size_t kMostSeparableSources = 3;  // of a sum

// A map that is summed: as it is, its pixels repeated `scale` times each way, or pooled by the largest of
// windows of 3x3 with stride 2.
struct SeparableSource {
  const void* map = nullptr;
  std::int64_t height = 0, width = 0;
  float share = 1;
  int scale = 1;
  bool pooled = false;
  int top = 0, left = 0;       // pads of the windows
  void* pooled_map = nullptr;  // stored there; may be null
};

// Maps of fp16, channels last.
struct SeparableConv {
  std::int64_t images = 0, height = 0, width = 0, channels = 0;  // of x
  std::int64_t out_height = 0, out_width = 0, outputs = 0;
  int stride = 1, top = 1, left = 1;  // of the depthwise convolution
  Activation between_activation = Activation::kNone, activation = Activation::kNone;

  const void* x = nullptr;                 // null: the sum of
  std::vector<SeparableSource> sources{};  // these
  Activation sum_activation = Activation::kNone;

  const void* taps = nullptr;           // [3,3,C]
  const float* between_bias = nullptr;  // may be null, as what follows but y
  const void* weight = nullptr;         // [O,C]
  const float* bias = nullptr;
  const void* residual = nullptr;  // of y's shape
  void* sum = nullptr;             // what lies between is stored there
  void* between = nullptr;
  void* y = nullptr;
  bool f32_out = false;  // y is f32: scores and boxes, of any even number of outputs
};

// Whether launch_separable_convs() takes it, whatever its pointers, on any device.
bool can_separate(const SeparableConv& conv);

struct SeparableLaunch {
  int multiprocessors = 0;
  int shared_bytes = 0;  // that a block may have, the most
  bool early = false;    // begins beside the kernel before it (cuda/early_launch.cuh)
  cudaStream_t stream = nullptr;
};

// All of them of one stride and one type of results; one of a sum is alone.
void launch_separable_convs(std::span<const SeparableConv> convs, const SeparableLaunch& how);

}  // namespace osprey
