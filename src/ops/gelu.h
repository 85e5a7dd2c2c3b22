// The exact GELU (Hendrycks and Gimpel, 2016): x / 2 * (1 + erf(x / sqrt(2))), of any shape.
#pragma once

#include "graph/infer.h"

namespace osprey {

struct Gelu {
  static constexpr std::string_view kName = "gelu";
  void fields(auto&&) {}

  TensorType infer(const OpInputs& in) const {
    in.expect_count(1, 1);
    require(in[0].dtype == DType::kF32 || in[0].dtype == DType::kBF16 || in[0].dtype == DType::kF16,
            "gelu: x is {}", to_string(in[0]));
    return in[0];
  }
};

}  // namespace osprey
