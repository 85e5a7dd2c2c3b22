// Query selection (Lv et al., RT-DETR, 2024): of the tokens of each image the `top` whose best class logit is
// highest, in descending order, equal ones by ascending token.
// logits f32 [N*T,K]; `tokens` is T -> rows i32[N*top]: of logits
#pragma once

#include "graph/token_rules.h"

namespace osprey {

struct SelectQueries {
  static constexpr std::string_view kName = "select_queries";
  int top = 1;
  int tokens = 1;
  void fields(auto&& f) { f("top", top), f("tokens", tokens); }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(1, 1);
    in.expect(0, "logits", {DType::kF32}, {"R", "K"});
    require(top >= 1 && top <= tokens, "select_queries: {} of {} tokens", top, tokens);
    return {DType::kI32, {images_of(kName, in.dim("R"), tokens) * top}};
  }
};

}  // namespace osprey
