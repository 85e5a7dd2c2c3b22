// Of maps for every class, the one of each row's own class, through a sigmoid in f32:
// x [D,K,H,W], classes i32[D] -> f32[D,H,W]. With K = 1 (class-agnostic masks) the only map is taken. Class 0
// has map `first`; those before it (the background's) are not looked at.
#pragma once

#include "graph/infer.h"

namespace osprey {

struct SelectClass {
  static constexpr std::string_view kName = "select_class";
  int first = 0;
  void fields(auto&& f) { f("first", first); }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(2, 2);
    in.expect(0, "x", kFloats, {"D", "K", "H", "W"});
    in.expect(1, "classes", {DType::kI32}, {"D"});
    require(first >= 0, "select_class: first {}", first);
    return {DType::kF32, {in.dim("D"), in.dim("H"), in.dim("W")}};
  }
};

}  // namespace osprey
