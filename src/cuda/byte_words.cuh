// 8-bit integers in kernels, four of them a word.
#pragma once

#include <cstdint>

namespace osprey {

// To an integer with one scale, as ops/quantize.h has it.
struct Rounding {
  float inverse;    // of the scale
  float low, high;  // the type's
};

// Adding it leaves an integer of up to 22 bits in a float's last places, rounded to nearest even; and so it
// is undone. Both are quicker than conversions.
constexpr float kRounder = 12582912.f;  // 1.5 * 2^23
constexpr int kRounderBits = 0x4B400000;

// In the low byte.
__device__ inline unsigned rounded(const Rounding& to, float v) {
  return __float_as_uint(fminf(fmaxf(v * to.inverse, to.low), to.high) + kRounder);  // NaN: the lowest
}

__device__ inline unsigned rounded(const Rounding& to, const float (&v)[4]) {
  const unsigned low = __byte_perm(rounded(to, v[0]), rounded(to, v[1]), 0x0040),
                 high = __byte_perm(rounded(to, v[2]), rounded(to, v[3]), 0x0040);
  return __byte_perm(low, high, 0x5410);
}

// The f32 of `bits`, which are kRounderBits and an integer of up to 22 bits.
__device__ inline float integer_above_rounder(int bits) { return __int_as_float(bits) - kRounder; }

// Byte k of a word as a float: it becomes the last places of 2^23.
template <class T>
__device__ float byte_of(unsigned word, int k) {
  const bool is_signed = static_cast<T>(-1) < T{0};
  const unsigned above = is_signed ? word ^ 0x80808080u : word;  // -128 becomes 0
  return __uint_as_float(__byte_perm(above, 0x4B000000u, 0x7440u + static_cast<unsigned>(k))) -
         (is_signed ? 8388736.f : 8388608.f);
}

// sum + the products of four bytes of x, as its type has them, and four signed ones.
template <class T>
__device__ int dot(unsigned x, unsigned weights, int sum);
template <>
__device__ inline int dot<std::int8_t>(unsigned x, unsigned weights, int sum) {
  return __dp4a(static_cast<int>(x), static_cast<int>(weights), sum);
}
template <>
__device__ inline int dot<std::uint8_t>(unsigned x, unsigned weights, int sum) {
  asm("dp4a.u32.s32 %0, %1, %2, %0;" : "+r"(sum) : "r"(x), "r"(weights));
  return sum;
}

}  // namespace osprey
