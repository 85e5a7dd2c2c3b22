// Coordinates in 0..1 and their logits, as DETRs keep boxes.
#pragma once

#include <algorithm>
#include <cmath>

namespace osprey {

// log(v / (1 - v)) of v held in 0..1, both parts at least `epsilon`.
inline float box_logit(float v, float epsilon = 1e-5f) {
  v = std::clamp(v, 0.0f, 1.0f);
  return std::log(std::max(v, epsilon) / std::max(1 - v, epsilon));
}

}  // namespace osprey
