// Rows by their numbers: x [R,C], rows i32[M] -> [M,C].
#pragma once

#include "graph/infer.h"

namespace osprey {

struct GatherRows {
  static constexpr std::string_view kName = "gather_rows";
  void fields(auto&&) {}

  TensorType infer(const OpInputs& in) const {
    in.expect_count(2, 2);
    in.expect(0, "x", kFloats, {"R", "C"});
    in.expect(1, "rows", {DType::kI32}, {"M"});
    return {in[0].dtype, {in.dim("M"), in.dim("C")}};
  }
};

}  // namespace osprey
