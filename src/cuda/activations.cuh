// Activations as kernels apply them, in float.
#pragma once

#include "graph/enums.h"

namespace osprey {

__device__ inline float sigmoid(float v) { return 1.0f / (1.0f + expf(-v)); }

__device__ inline float activate(Activation kind, float v) {
  switch (kind) {
    case Activation::kRelu:
      return v < 0 ? 0 : v;  // NaN stays NaN
    case Activation::kSigmoid:
      return sigmoid(v);
    case Activation::kSwish:
      return v * sigmoid(v);
    case Activation::kRelu6:
      return v < 0 ? 0 : v > 6 ? 6 : v;
    default:
      return v;
  }
}

}  // namespace osprey
