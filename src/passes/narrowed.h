// A weight that lower_precision made narrower, as the function that loads it. It keeps where it comes from,
// so that integers are made of what the checkpoint has.
//
// What rounding takes from a number goes to the next of its row, so that the row's sum stays. A filter's
// inputs are mostly of one sign, behind a ReLU, and alike side by side: were each weight rounded for itself,
// the errors would add up to a shift of the filter's whole map, and the layers behind it carry that on.
#pragma once

#include <functional>

#include "core/tensor.h"

namespace osprey {

struct Narrowed {
  std::function<Tensor()> wide;
  DType to;
  std::size_t row = 1;  // numbers of a row: of a filter, which lie together; 1: each is rounded for itself

  Tensor operator()() const;
};

}  // namespace osprey
