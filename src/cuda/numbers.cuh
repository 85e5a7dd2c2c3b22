// Element types in kernels: f32, f16 and bf16 in memory, float in arithmetic.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "core/dtype.h"
#include "core/error.h"

namespace osprey {

__device__ inline float widen(float v) { return v; }
__device__ inline float widen(__half v) { return __half2float(v); }
__device__ inline float widen(__nv_bfloat16 v) { return __bfloat162float(v); }

// Rounds to nearest even.
template <class T>
__device__ T narrow(float v);
template <>
__device__ inline float narrow<float>(float v) {
  return v;
}
template <>
__device__ inline __half narrow<__half>(float v) {
  return __float2half_rn(v);
}
template <>
__device__ inline __nv_bfloat16 narrow<__nv_bfloat16>(float v) {
  return __float2bfloat16_rn(v);
}

// A value of the C++ type that stands for `type` is given to body: with_float_type(t, [&](auto zero) {
// using T = decltype(zero); ... }).
template <class Body>
void with_float_type(DType type, Body&& body) {
  switch (type) {
    case DType::kF32:
      return body(float{});
    case DType::kF16:
      return body(__half{});
    case DType::kBF16:
      return body(__nv_bfloat16{});
    default:
      fail(ErrorCode::kInternal, "cuda: {} is no float of kernels", name_of(type));
  }
}

inline constexpr int kBlock = 256;  // threads of a block where nothing asks for another number

inline unsigned blocks_for(std::int64_t items, int block = kBlock) {
  return static_cast<unsigned>((items + block - 1) / block);
}

}  // namespace osprey
