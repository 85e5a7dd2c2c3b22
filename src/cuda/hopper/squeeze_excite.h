// Squeeze and excitation of a whole map by one cluster of blocks in one launch (ops/squeeze_excite.h), for
// maps that so few multiprocessors go through quickly. Sums of channels are in parts, not in the CPU's order.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

#include "core/dtype.h"
#include "graph/enums.h"
#include "ops/quantize.h"

namespace osprey {

struct SqueezedMap {
  DType type = DType::kF16;
  int pixels = 0, channels = 0, hidden = 0;
  Activation activation = Activation::kNone;
};

struct SqueezeMemory {
  const void *x = nullptr, *squeeze = nullptr, *expand = nullptr;  // [hidden, channels], [channels, hidden]
  const float *squeeze_bias = nullptr, *expand_bias = nullptr;
  void* y = nullptr;                       // may be x
  const Quantize* quantization = nullptr;  // of y; null: of x's type
  const int* live = nullptr;
};

// Whether a cluster is the better choice for that map, and the device in use, a Hopper GPU, has them.
bool squeezes_by_cluster(const SqueezedMap& map);

void launch_squeeze_excite(const SqueezedMap& map, const SqueezeMemory& memory, std::int64_t images,
                           cudaStream_t stream);

}  // namespace osprey
