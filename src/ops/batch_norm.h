// Batch normalisation with its running statistics: (x - mean) / sqrt(variance + epsilon) * scale + bias,
// per channel. Detectron2's FrozenBN is the same with epsilon 1e-5. Folded into convolutions before running.
//
// With `exact_factor` an f32 engine keeps scale / sqrt(variance + epsilon) out of the weights, whose products
// with it would be rounded: deep networks amplify that beyond the bounds of TensorFlow's EfficientDets, which
// normalise the convolution's sums.
#pragma once

#include "graph/infer.h"

namespace osprey {

struct BatchNorm {
  static constexpr std::string_view kName = "batch_norm";
  float epsilon = 1e-5f;
  bool exact_factor = false;
  void fields(auto&& f) { f("epsilon", epsilon), f("exact_factor", exact_factor); }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(5, 5);
    in.expect(0, "x", kFloats, {"N", "C", "H", "W"});
    for (const auto& [i, what] : {std::pair{1, "scale"}, {2, "bias"}, {3, "mean"}, {4, "variance"}})
      in.expect(static_cast<std::size_t>(i), what, {DType::kF32}, {"C"});
    require(epsilon >= 0, "batch_norm: epsilon {}", epsilon);
    return in[0];
  }
};

}  // namespace osprey
