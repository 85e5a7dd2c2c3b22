// An activation on its own, of any shape; usually fused into what comes before it.
#pragma once

#include "graph/enums.h"
#include "graph/infer.h"

namespace osprey {

struct Activate {
  static constexpr std::string_view kName = "activate";
  Activation kind = Activation::kRelu;
  void fields(auto&& f) { f("kind", kind); }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(1, 1);
    require(in[0].dtype == DType::kF32 || in[0].dtype == DType::kBF16 || in[0].dtype == DType::kF16,
            "activate: x is {}", to_string(in[0]));
    return in[0];
  }
};

}  // namespace osprey
