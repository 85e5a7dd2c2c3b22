// Mean over height and width: x [N,C,H,W] -> [N,C]. The sum is taken in f32.
#pragma once

#include "graph/infer.h"

namespace osprey {

struct GlobalAveragePool {
  static constexpr std::string_view kName = "global_average_pool";
  void fields(auto&&) {}

  TensorType infer(const OpInputs& in) const {
    in.expect_count(1, 1);
    in.expect(0, "x", kFloats, {"N", "C", "H", "W"});
    return {in[0].dtype, {in.dim("N"), in.dim("C")}};
  }
};

}  // namespace osprey
