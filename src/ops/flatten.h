// [R,C,H,W] -> [R, C*H*W] in the order C, H, W, as PyTorch flattens. C, H and W are constants.
#pragma once

#include "graph/element_types.h"
#include "graph/infer.h"

namespace osprey {

struct Flatten {
  static constexpr std::string_view kName = "flatten";
  void fields(auto&&) {}

  TensorType infer(const OpInputs& in) const {
    in.expect_count(1, 1);
    in.expect(0, "x", kStored, {"R", "C", "H", "W"});
    return {in[0].dtype,
            {in.dim("R"), in.dim("C").constant() * in.dim("H").constant() * in.dim("W").constant()}};
  }
};

}  // namespace osprey
