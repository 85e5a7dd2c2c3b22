// How a kernel stores what it made of floats of type T: as it is, or in 8 bits (cuda/conversions.h).
#pragma once

#include "cuda/byte_words.cuh"
#include "cuda/conversions.h"
#include "cuda/packs.cuh"
#include "cuda/tensor_core.cuh"

namespace osprey {

inline Rounding rounding_to(IntegerType type, float scale) {
  return type == IntegerType::kI8 ? Rounding{1 / scale, -128, 127} : Rounding{1 / scale, 0, 255};
}

struct Storing {
  bool integers = false;
  Rounding rounding{};

  explicit Storing(const Quantize* quantization) : integers(quantization) {
    if (quantization) rounding = rounding_to(quantization->to, quantization->scale);
  }
};

// Pairs of a half type are rounded by one instruction.
template <class T, int N>
__device__ Pack<T, N> narrowed(const float (&v)[N]) {
  Pack<T, N> out;
  if constexpr (sizeof(T) == 2 && N % 2 == 0) {
    Pack<unsigned, N / 2> pairs;
#pragma unroll
    for (int k = 0; k < N / 2; ++k) pairs.values[k] = cuda::packed<T>(v[2 * k], v[2 * k + 1]);
    out = reinterpret_cast<const Pack<T, N>&>(pairs);
  } else {
#pragma unroll
    for (int k = 0; k < N; ++k) out.values[k] = narrow<T>(v[k]);
  }
  return out;
}

// A pack of a result, whose first element is number `at` of y; rounded to T first, so that the integers are
// those that `quantize` would make of it.
template <class T, bool kIntegers, int N>
__device__ void store_pack_as(const Storing& storing, const float (&v)[N], void* y, std::int64_t at) {
  const Pack<T, N> out = narrowed<T>(v);
  if constexpr (kIntegers) {
    Pack<unsigned char, N> bytes;
#pragma unroll
    for (int k = 0; k < N; ++k)
      bytes.values[k] = static_cast<unsigned char>(rounded(storing.rounding, widen(out.values[k])));
    *reinterpret_cast<Pack<unsigned char, N>*>(static_cast<unsigned char*>(y) + at) = bytes;
  } else {
    *reinterpret_cast<Pack<T, N>*>(static_cast<T*>(y) + at) = out;
  }
}
template <class T, int N>
__device__ void store_pack(const Storing& storing, const float (&v)[N], void* y, std::int64_t at) {
  if (storing.integers)
    store_pack_as<T, true>(storing, v, y, at);
  else
    store_pack_as<T, false>(storing, v, y, at);
}

}  // namespace osprey
