// What the tests of ops on 8-bit integers share.
#pragma once

#include <algorithm>
#include <cmath>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "core/tensor.h"
#include "ops/quantized_conv.h"

namespace osprey {

// From `low` to `high`, both among them; the same on every machine.
template <class T>
Tensor random_integers(const Shape& shape, int low, int high, unsigned seed) {
  std::mt19937 random(seed);
  Tensor out = Tensor::zeros(kDTypeOf<T>, shape);
  for (T& v : out.mutable_values<T>())
    v = static_cast<T>(low + static_cast<int>(random() % static_cast<unsigned>(high - low + 1)));
  return out;
}

// Element `i` of i8 or u8.
inline int integer(const Tensor& t, std::int64_t i) {
  const auto at = static_cast<std::size_t>(i);
  return t.dtype() == DType::kI8 ? t.values<std::int8_t>()[at] : t.values<std::uint8_t>()[at];
}

// Element `i` of a result that is `exact` before it is stored as `to` (in steps of `y_scale`, within [low,
// high]).
inline void expect_stored(const Tensor& y, std::int64_t i, double exact, StoredType to, float y_scale,
                          double low, double high, const std::string& what) {
  if (is_integer(to))
    ASSERT_LE(std::abs(integer(y, i) - std::clamp(exact / double{y_scale}, low, high)), 0.5 + 1e-4)
        << what << ", element " << i;
  else
    ASSERT_NEAR(y.values<float>()[static_cast<std::size_t>(i)], exact, 3e-6 * std::max(1.0, std::abs(exact)))
        << what << ", element " << i;
}

}  // namespace osprey
