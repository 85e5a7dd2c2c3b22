// Coordinates in 0..1 and their logits, as DETRs keep boxes (cpu/box_logits.h).
#pragma once

#include "cuda/boxes.cuh"

namespace osprey::cuda {

// log(v / (1 - v)) of v held in 0..1, both parts at least `epsilon`.
__device__ inline float box_logit(float v, float epsilon = 1e-5f) {
  v = clamp_keeping_nan(v, 0, 1);
  const float rest = 1 - v;
  return log_rounded((v < epsilon ? epsilon : v) / (rest < epsilon ? epsilon : rest));
}

}  // namespace osprey::cuda
