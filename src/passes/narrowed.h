// A weight that lower_precision made narrower, as the function that loads it. It keeps where it comes from,
// so that integers are made of what the checkpoint has.
#pragma once

#include <functional>

#include "core/tensor.h"

namespace osprey {

struct Narrowed {
  std::function<Tensor()> wide;
  DType to;

  Tensor operator()() const;
};

}  // namespace osprey
