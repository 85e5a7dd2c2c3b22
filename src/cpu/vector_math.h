// Functions of 16 floats side by side, for what <cmath> computes one at a time. Within a few units of the
// last place; NaN stays NaN.
#pragma once

#include "cpu/vectors.h"
#include "graph/enums.h"

namespace osprey {

// v = e^v: 2^n times the series of what is left, below ln(2) / 2. Arguments are held where floats are normal.
[[gnu::always_inline]] inline void exp_lanes(Floats<16>& v) {
  using Ints = std::int32_t __attribute__((vector_size(16 * sizeof(std::int32_t))));
  using Lanes = float __attribute__((vector_size(16 * sizeof(float))));
  constexpr float kRound = 12582912.f;  // 1.5 * 2^23: what is added to it loses its fraction
  Lanes x = v;
  x = x < -87.f ? Lanes{} - 87.f : x;
  x = x > 88.f ? Lanes{} + 88.f : x;
  const Lanes shifted = x * 1.44269504f + kRound, n = shifted - kRound;
  const Lanes r =
      (x - n * 0.693145752f) - n * 1.42860677e-6f;  // ln(2) in two parts; n times the first is exact
  Lanes sum = r * (1.f / 5040) + 1.f / 720;
  sum = sum * r + 1.f / 120;
  sum = sum * r + 1.f / 24;
  sum = sum * r + 1.f / 6;
  sum = sum * r + 0.5f;
  sum = sum * r * r + r + 1.f;
  const Ints power = (((Ints)shifted - 0x4B400000) + 127) << 23;
  v = sum * (Lanes)power;
}

[[gnu::always_inline]] inline void activate_lanes(Activation kind, Floats<16>& v) {
  switch (kind) {
    case Activation::kNone:
      return;
    case Activation::kRelu:
      v = v < 0.f ? Floats<16>{} : v;
      return;
    case Activation::kRelu6:
      v = v < 0.f ? Floats<16>{} : v;
      v = v > 6.f ? Floats<16>{} + 6.f : v;
      return;
    case Activation::kSigmoid:
    case Activation::kSwish: {
      Floats<16> e = -v;
      exp_lanes(e);
      v = (kind == Activation::kSwish ? v : Floats<16>{} + 1.f) / (e + 1.f);
      return;
    }
  }
}

}  // namespace osprey
