// x times a number, of any shape: what Inception-ResNet scales its residuals by. Usually folded into the
// convolution before it.
#pragma once

#include "graph/infer.h"

namespace osprey {

struct Scale {
  static constexpr std::string_view kName = "scale";
  float factor = 1.f;
  void fields(auto&& f) { f("factor", factor); }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(1, 1);
    require(in[0].dtype == DType::kF32 || in[0].dtype == DType::kBF16 || in[0].dtype == DType::kF16,
            "scale: x is {}", to_string(in[0]));
    return in[0];
  }
};

}  // namespace osprey
