// Vector code written once and compiled for each instruction set; the best one is taken at run time.
//
// A body is an always-inlined function over plain loops or the Floats types below;
// vectorised<body>(arguments) runs it compiled for AVX-512, AVX2 or the baseline. No set contracts a * b + c,
// so that all give the same bits.
#pragma once

#include <cstdint>

namespace osprey {

// N floats side by side in memory of any alignment. N = 16 fills an AVX-512 register; smaller sets split it.
template <int N>
struct FloatsOf {
  typedef float type __attribute__((vector_size(N * sizeof(float)), aligned(alignof(float)), may_alias));
};
template <int N>
using Floats = typename FloatsOf<N>::type;

#if defined(__x86_64__)

enum class VectorSet : std::uint8_t { kBaseline, kAvx2, kAvx512 };

inline VectorSet vector_set() {
  static const VectorSet set = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                                       __builtin_cpu_supports("avx512bw") &&
                                       __builtin_cpu_supports("avx512dq")
                                   ? VectorSet::kAvx512
                               : __builtin_cpu_supports("avx2") ? VectorSet::kAvx2
                                                                : VectorSet::kBaseline;
  return set;
}

// GCC keeps to half registers unless told otherwise; clang does not know the wish.
#if defined(__clang__)
#define OSPREY_AVX512 "avx512f,avx512vl,avx512bw,avx512dq"
#else
#define OSPREY_AVX512 "avx512f,avx512vl,avx512bw,avx512dq,prefer-vector-width=512"
#endif

namespace detail {
template <auto body, class... Args>
[[gnu::target(OSPREY_AVX512)]] auto on_avx512(Args... args) {
  return body(args...);
}
template <auto body, class... Args>
[[gnu::target("avx2")]] auto on_avx2(Args... args) {
  return body(args...);
}
}  // namespace detail
#undef OSPREY_AVX512

template <auto body, class... Args>
auto vectorised(Args... args) {
  switch (vector_set()) {
    case VectorSet::kAvx512:
      return detail::on_avx512<body>(args...);
    case VectorSet::kAvx2:
      return detail::on_avx2<body>(args...);
    default:
      return body(args...);
  }
}

#else

template <auto body, class... Args>
auto vectorised(Args... args) {
  return body(args...);
}

#endif

}  // namespace osprey
