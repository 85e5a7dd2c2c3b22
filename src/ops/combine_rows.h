// Tokens with a table that is the same for every image: x [M,C], table f32 [T,C] or [T,1], a weight,
// rows i32[M]? -> [M,C]. Row i of x is of token rows[i] of a batch whose images have T each; without `rows`,
// x is all of these tokens in their order. `rule` add: x + table (a position embedding, anchors); multiply: x
// * table (0 for tokens that do not count).
#pragma once

#include "graph/token_rules.h"

namespace osprey {

enum class CombineRule : std::uint8_t { kAdd, kMultiply };
inline constexpr std::array<std::string_view, 2> kCombineRuleNames{"add", "multiply"};
constexpr const auto& enum_names(CombineRule) { return kCombineRuleNames; }

struct CombineRows {
  static constexpr std::string_view kName = "combine_rows";
  CombineRule rule = CombineRule::kAdd;
  void fields(auto&& f) { f("rule", rule); }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(2, 3);
    in.expect(0, "x", kFloats, {"M", "C"});
    in.expect(1, "table", {DType::kF32}, {"T", "_"});
    const Dim& width = in[1].dims[1];
    require(width == in.dim("C") || width == Dim(1), "combine_rows: a table of {} beside rows of {}",
            to_string(width), to_string(in.dim("C")));
    if (in.has(2)) {
      in.expect(2, "rows", {DType::kI32}, {"M"});
    } else {
      images_of(kName, in.dim("M"), in.dim("T").constant());
    }
    return in[0];
  }
};

}  // namespace osprey
