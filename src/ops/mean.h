// Elementwise mean of two or more f32 tensors of one shape: summed from the first to the last, then divided,
// as Detectron2's cascade averages its stages' scores.
#pragma once

#include "graph/infer.h"

namespace osprey {

struct Mean {
  static constexpr std::string_view kName = "mean";
  void fields(auto&&) {}

  TensorType infer(const OpInputs& in) const {
    in.expect_count(2, 64);
    for (std::size_t i = 0; i < in.count(); ++i)
      require(in[i] == in[0] && in[i].dtype == DType::kF32, "mean: {} and {}", to_string(in[0]),
              to_string(in[i]));
    return in[0];
  }
};

}  // namespace osprey
