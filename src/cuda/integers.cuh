// Integers of 8 bits in kernels (ops/quantize.h).
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "cuda/kernel.h"
#include "cuda/numbers.cuh"

namespace osprey {

// To the nearest, ties to even; what is beyond the type's range, or NaN, as ops/quantize.h has it.
template <class T>
__device__ T quantized(float v) {
  constexpr float kLow = std::numeric_limits<T>::min(), kHigh = std::numeric_limits<T>::max();
  return static_cast<T>(__float2int_rn(fminf(fmaxf(v, kLow), kHigh)));  // fmaxf: a NaN gives way
}

// As with_float_type, for the integers that layers store.
template <class Body>
void with_integer_type(DType type, Body&& body) {
  if (type == DType::kI8) return body(std::int8_t{});
  check(type == DType::kU8, "cuda: {} is no integer of layers", name_of(type));
  body(std::uint8_t{});
}

template <class Body>
void with_stored_type(DType type, Body&& body) {
  if (type == DType::kI8 || type == DType::kU8) return with_integer_type(type, body);
  with_float_type(type, body);
}

// N neighbouring elements.
template <class T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Vector {
  T values[N];
};

// to[i] = f(from[i]) for the live rows of `value`, 16 elements a thread; both at multiples of 16 elements.
template <class From, class To, class F>
__global__ void convert_vectors(std::int64_t count, std::int64_t row, const int* rows, const From* from,
                                To* to, F f) {
  constexpr int kEach = 16;
  const std::int64_t live = rows ? min(count, row * static_cast<std::int64_t>(*rows)) : count;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x * kEach;
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kEach;
  for (std::int64_t i = first; i < live; i += step) {
    if (i + kEach > count) {
      for (std::int64_t k = i; k < live; ++k) to[k] = f(from[k]);
      return;
    }
    const auto x = *reinterpret_cast<const Vector<From, kEach>*>(from + i);
    Vector<To, kEach> y;
#pragma unroll
    for (int k = 0; k < kEach; ++k) y.values[k] = f(x.values[k]);
    *reinterpret_cast<Vector<To, kEach>*>(to + i) = y;
  }
}

template <class From, class To, class F>
void launch_conversion(const CudaValue& x, const CudaValue& y, cudaStream_t stream, F f) {
  const std::int64_t count = element_count(y.dims);
  if (count == 0) return;
  const std::int64_t row = y.dims.empty() ? 1 : count / std::max<std::int64_t>(y.dims[0], 1);
  const unsigned blocks = std::min(blocks_for((count + 15) / 16), 65535u);
  convert_vectors<<<blocks, kBlock, 0, stream>>>(count, row, y.rows, x.as<const From>(), y.as<To>(), f);
}

}  // namespace osprey
