// Changes the element type of floats; narrowing rounds to nearest even.
#pragma once

#include "graph/enums.h"
#include "graph/infer.h"

namespace osprey {

struct Cast {
  static constexpr std::string_view kName = "cast";
  FloatType to = FloatType::kF32;
  void fields(auto&& f) { f("to", to); }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(1, 1);
    return {dtype_of(to), in[0].dims};
  }
};

}  // namespace osprey
