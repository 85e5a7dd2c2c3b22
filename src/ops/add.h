// Elementwise sum of two tensors of one shape.
#pragma once

#include "graph/infer.h"

namespace osprey {

struct Add {
  static constexpr std::string_view kName = "add";
  void fields(auto&&) {}

  TensorType infer(const OpInputs& in) const {
    in.expect_count(2, 2);
    require(in[0] == in[1], "add: {} and {}", to_string(in[0]), to_string(in[1]));
    return in[0];
  }
};

}  // namespace osprey
