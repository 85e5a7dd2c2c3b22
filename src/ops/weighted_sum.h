// Fuses the maps of a bidirectional feature pyramid (Tan et al., 2019):
//   y = activation(sum of x_i * relu(w_i) / (sum of relu(w) + epsilon))   (EfficientDet's fast attention), or
//   y = activation(sum of x_i)                                            without `normalize`.
//
// Inputs: x_1 ... x_n, two to eight, then with `normalize` w_1 ... w_n, f32 without dimensions. Each x_i has
// the shape of y, or that divided by scales[i]: then its pixels are repeated so many times each way as it is
// read. Products and sums are f32, in the order of the inputs.
#pragma once

#include "graph/enums.h"
#include "graph/infer.h"

namespace osprey {

struct WeightedSum {
  static constexpr std::string_view kName = "weighted_sum";
  static constexpr std::size_t kMostMaps = 8;
  bool normalize = true;
  float epsilon = 1e-4f;
  Activation activation = Activation::kNone;
  std::vector<int> scales;  // one a map; none: all 1
  void fields(auto&& f) {
    f("normalize", normalize), f("epsilon", epsilon), f("activation", activation), f("scales", scales);
  }

  // How many of `inputs` are maps.
  std::size_t maps(std::size_t inputs) const { return normalize ? inputs / 2 : inputs; }
  int scale(std::size_t i) const { return scales.empty() ? 1 : scales[i]; }

  TensorType infer(const OpInputs& in) const {
    const std::size_t n = maps(in.count());
    require(n >= 2 && n <= kMostMaps && in.count() == (normalize ? 2 * n : n), "weighted_sum: {} inputs",
            in.count());
    require(epsilon > 0, "weighted_sum: epsilon {}", epsilon);
    if (!scales.empty()) expect_list(kName, "scales", scales, n, 1);
    TensorType y;
    for (std::size_t i = 0; i < n; ++i) {
      in.expect(i, fmt::format("x{}", i), kFloats, {"N", "C", "_", "_"});
      TensorType x = in[i];
      x.dims[2] = x.dims[2] * scale(i);
      x.dims[3] = x.dims[3] * scale(i);
      if (i == 0) y = x;
      require(x == y, "weighted_sum: {}, repeated {} times, beside {}", to_string(in[i]), scale(i),
              to_string(y));
    }
    for (std::size_t i = n; i < in.count(); ++i) in.expect(i, fmt::format("w{}", i - n), {DType::kF32}, {});
    return y;
  }
};

}  // namespace osprey
