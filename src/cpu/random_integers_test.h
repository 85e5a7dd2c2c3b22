// What the tests of ops on 8-bit integers share.
#pragma once

#include <random>

#include "core/tensor.h"

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

}  // namespace osprey
