// What becomes of the sums of 8-bit integers on a Hopper GPU, in the order of the tensor cores' columns.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/hopper/conv_tiles.cuh"
#include "cuda/hopper/quantized_conv_group.h"

namespace osprey::hopper {

// Outputs whose order the packed weight changes together, so that a lane has 16 neighbouring bytes.
inline int packed_group(StoredType to) { return 64 / static_cast<int>(size_of(dtype_of(to))); }
inline constexpr int kQuad = 4;  // bytes of a word

// An integer is kept as its place in a range of 256 from `low` on, so that an addition saturates it.
inline constexpr float kRange = 256;

struct QuantizedResult {
  void* y;
  const float4* terms;  // of two columns each: factor, addend, factor, addend
  const void* residual;
  int upsampling;
  // Of integers. The residual's bytes b are those of numbers b ^ flip - zero, where b lies in the last places
  // of 2^23; `high` is the greatest place, and `rounder` makes integers of places.
  std::uint32_t residual_flip;
  float residual_zero, residual_factor, high, rounder;
  Activation activation;             // of floats, and of integers where it is no bound
  float place_factor, place_addend;  // of what such an activation gives
  ScoreFlags scores;
};

// --- On the device
// -------------------------------------------------------------------------------------------

__device__ inline std::uint32_t word_of(const uint4& four, int i) {
  return i == 0 ? four.x : i == 1 ? four.y : i == 2 ? four.z : four.w;
}

// Adds a word of the residual to the places of four neighbours.
__device__ inline void add_residual(const QuantizedResult& r, std::uint32_t word, float (&v)[kQuad]) {
  constexpr std::uint32_t kExponent = 0x4b000000;  // of 2^23
#pragma unroll
  for (int k = 0; k < kQuad; ++k) {
    const float number =
        __uint_as_float(__byte_perm(word ^ r.residual_flip, kExponent, 0x7440 + k)) - r.residual_zero;
    v[k] = __fmaf_rn(number, r.residual_factor, v[k]);
  }
}

// The integers of four places.
__device__ inline std::uint32_t integers_of(const QuantizedResult& r, const float (&v)[kQuad]) {
  std::uint32_t bits[kQuad];
#pragma unroll
  for (int k = 0; k < kQuad; ++k)
    bits[k] = __float_as_uint(__fmaf_rn(fminf(__saturatef(v[k]), r.high), kRange, r.rounder));
  return __byte_perm(__byte_perm(bits[0], bits[1], 0x0040), __byte_perm(bits[2], bits[3], 0x0040), 0x5410);
}

// --- On the host
// ---------------------------------------------------------------------------------------------

// With activations that are bounds an integer's scale goes into the terms.
inline bool is_bound(Activation activation) {
  return activation == Activation::kNone || activation == Activation::kRelu ||
         activation == Activation::kRelu6;
}
inline float inverse_of(const QuantizedGroupedConv& c) { return 1 / c.y_scale; }
// The least integer of the result.
inline float low_of(const QuantizedGroupedConv& c) {
  const bool bounded = c.activation == Activation::kRelu || c.activation == Activation::kRelu6;
  return c.to == StoredType::kI8 && !bounded ? -128.f : 0.f;
}

inline constexpr int kPackedTerms = 256;  // what terms are padded to: the widest tile reads its own

// Of scale and bias, in the order of a weight that was packed in such groups.
inline Tensor packed_terms(const QuantizedGroupedConv& c, const Tensor& scale, const Tensor& bias,
                           float x_scale, int group) {
  const std::int64_t outputs = scale.dim(0);
  Tensor out = Tensor::zeros(DType::kF32, {packed_outputs(outputs, kPackedTerms), 2});
  const auto to = out.mutable_values<float>();
  for (std::int64_t column = 0; column < out.dim(0); ++column) {
    const std::int64_t output = packed_output(column, group);
    if (output >= outputs) continue;
    const auto at = static_cast<std::size_t>(output), place = static_cast<std::size_t>(column) * 2;
    to[place] = x_scale * scale.values<float>()[at];
    to[place + 1] = bias.empty() ? 0 : bias.values<float>()[at];
    if (!is_integer(c.to) || !is_bound(c.activation)) continue;
    to[place] *= inverse_of(c) / kRange;
    to[place + 1] = (to[place + 1] * inverse_of(c) - low_of(c)) / kRange;
  }
  return out;
}

inline QuantizedResult result_of(const QuantizedGroupedConv& c) {
  QuantizedResult out{.y = c.y,
                      .terms = static_cast<const float4*>(c.terms),
                      .residual = c.residual_data,
                      .upsampling = c.residual.upsampling,
                      .activation = c.activation,
                      .scores = c.scores};
  if (!is_integer(c.to)) return out;
  if (is_bound(c.activation)) out.activation = Activation::kNone;
  out.place_factor = inverse_of(c) / kRange;
  out.place_addend = -low_of(c) / kRange;
  constexpr float kTwo23 = 8388608, kRounder = 1.5f * kTwo23;  // has an integer in its last places
  const bool is_signed = c.residual.type == DType::kI8;
  out.residual_flip = is_signed ? 0x80808080u : 0;  // b + 128
  out.residual_zero = is_signed ? kTwo23 + 128 : kTwo23;
  out.residual_factor = c.residual.scale * inverse_of(c) / kRange;
  float high = c.to == StoredType::kI8 ? 127.f : 255.f;
  if (c.activation == Activation::kRelu6) high = std::min(high, 6 * inverse_of(c));
  out.high = (high - low_of(c)) / kRange;
  out.rounder = kRounder + low_of(c);
  return out;
}

}  // namespace osprey::hopper
