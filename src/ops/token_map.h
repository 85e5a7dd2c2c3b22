// Rows back into maps, what `tokens` makes of one map: [N*height*width,C] -> [N,C,height,width].
#pragma once

#include "graph/token_rules.h"

namespace osprey {

struct TokenMap {
  static constexpr std::string_view kName = "token_map";
  int height = 1, width = 1;
  void fields(auto&& f) { f("height", height), f("width", width); }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(1, 1);
    in.expect(0, "x", kFloats, {"R", "C"});
    require(height >= 1 && width >= 1, "token_map: {} x {}", height, width);
    const Dim images = images_of(kName, in.dim("R"), std::int64_t{height} * width);
    return {in[0].dtype, {images, in.dim("C"), height, width}};
  }
};

}  // namespace osprey
