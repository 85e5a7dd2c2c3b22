// Activations as kernels apply them, in float.
#pragma once

#include <type_traits>

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

// For values that will be stored as T: what is narrower than f32 hides the few units of the last place that
// the fast exponential and quotient are off.
template <class T>
__device__ float sigmoid_as(float v) {
  if constexpr (std::is_same_v<T, float>)
    return sigmoid(v);
  else
    return __fdividef(1.f, 1.f + __expf(-v));
}

template <class T, int N>
__device__ void activate_all(Activation kind, float (&v)[N]) {
  const auto all = [&](auto f) {
#pragma unroll
    for (int k = 0; k < N; ++k) v[k] = f(v[k]);
  };
  switch (kind) {
    case Activation::kNone:
      break;
    case Activation::kRelu:
      all([](float x) { return activate(Activation::kRelu, x); });
      break;
    case Activation::kRelu6:
      all([](float x) { return activate(Activation::kRelu6, x); });
      break;
    case Activation::kSigmoid:
      all([](float x) { return sigmoid_as<T>(x); });
      break;
    case Activation::kSwish:
      all([](float x) { return x * sigmoid_as<T>(x); });
      break;
  }
}

}  // namespace osprey
