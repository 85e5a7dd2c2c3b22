// The element types that layers compute in, for kernels that are templates over them.
#pragma once

#include <cmath>
#include <type_traits>

#include "core/dtype.h"
#include "core/error.h"
#include "graph/enums.h"

namespace osprey {

inline float load_float(float v) { return v; }
inline float load_float(BFloat16 v) { return to_float(v); }

template <class T>
T store_float(float v) {
  if constexpr (std::is_same_v<T, float>) {
    return v;
  } else {
    return to_bfloat16(v);
  }
}

inline float sigmoid(float v) { return 1.0f / (1.0f + std::exp(-v)); }

inline float activated(Activation kind, float v) {  // NaN stays NaN
  switch (kind) {
    case Activation::kNone:
      return v;
    case Activation::kRelu:
      return v < 0 ? 0.f : v;
    case Activation::kSigmoid:
      return sigmoid(v);
    case Activation::kSwish:
      return v * sigmoid(v);
    case Activation::kRelu6:
      return v < 0 ? 0.f : v > 6 ? 6.f : v;
  }
  return v;
}

// body.template operator()<T>() with T the element type.
template <class Body>
void with_float(DType type, Body&& body) {
  switch (type) {
    case DType::kF32:
      return body.template operator()<float>();
    case DType::kBF16:
      return body.template operator()<BFloat16>();
    default:
      fail(ErrorCode::kInternal, "cpu: no float kernel for {}", name_of(type));
  }
}

}  // namespace osprey
