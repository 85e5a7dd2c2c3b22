// Softmax over the last dimension, in f32: exp(x - max) / sum. x [R,K].
#pragma once

#include "graph/infer.h"

namespace osprey {

struct Softmax {
  static constexpr std::string_view kName = "softmax";
  void fields(auto&&) {}

  TensorType infer(const OpInputs& in) const {
    in.expect_count(1, 1);
    in.expect(0, "x", {DType::kF32}, {"R", "K"});
    return in[0];
  }
};

}  // namespace osprey
