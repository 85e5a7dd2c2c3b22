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

}  // namespace osprey
