// The gates of a squeeze and excitation (ops/squeeze_excite.h), put upon the weights of the 1x1 convolution
// that reads its map: those are far fewer numbers than the map has, which then is read as it is.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

#include "core/dtype.h"
#include "graph/enums.h"

namespace osprey {

struct GatesShape {
  DType type = DType::kF16;  // of weights
  int pixels = 0, channels = 0, hidden = 0, outputs = 0;
  Activation activation = Activation::kNone;
  bool early = false;  // begins beside the kernel before it (cuda/early_launch.cuh)
};

struct GatesMemory {
  long long* sums = nullptr;    // [images, channels] (cuda/channel_sums.cuh); zero behind the launch
  unsigned* readers = nullptr;  // [images]; zero before and behind the launch
  const void *squeeze = nullptr, *expand = nullptr;  // both [hidden, channels]
  const float *squeeze_bias = nullptr, *expand_bias = nullptr;
  const void* weights = nullptr;  // [outputs, channels]
  void* gated = nullptr;          // [images, outputs, channels]
  float* gates = nullptr;         // [images, channels]
};

// Whether the kernel takes a block of these extents.
bool gates_weights(const GatesShape& shape);

// gated = weights * gates.
void launch_gated_weights(const GatesShape& shape, const GatesMemory& memory, std::int64_t images,
                          cudaStream_t stream);

// y = x * gates, both maps of the shape: what squeeze_excite gives.
void launch_gated_map(const GatesShape& shape, const float* gates, const void* x, void* y,
                      std::int64_t images, cudaStream_t stream);

}  // namespace osprey
