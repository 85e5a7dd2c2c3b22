// Multi-head self-attention (Vaswani et al., 2017) between the tokens of each image:
//   softmax(q k^T / sqrt(E / heads)) v,  the softmax in f32; head h has channels [h * E/heads, (h+1) *
//   E/heads)
// query_key [N*T,2E], a row's query before its key; value [N*T,E]; `tokens` is T. -> [N*T,E]
#pragma once

#include "graph/token_rules.h"

namespace osprey {

struct Attention {
  static constexpr std::string_view kName = "attention";
  int heads = 8;
  int tokens = 1;
  void fields(auto&& f) { f("heads", heads), f("tokens", tokens); }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(2, 2);
    in.expect(0, "query_key", kFloats, {"R", "_"});
    in.expect(1, "value", kFloats, {"R", "E"});
    require(in[0].dtype == in[1].dtype, "attention: {} beside {}", to_string(in[0]), to_string(in[1]));
    const std::int64_t width = in.dim("E").constant();
    require(in[0].dims[1] == Dim(2 * width), "attention: {} is no query and key of {} channels",
            to_string(in[0]), width);
    require(heads >= 1 && width % heads == 0, "attention: {} channels in {} heads", width, heads);
    images_of(kName, in.dim("R"), tokens);
    return in[1];
  }
};

}  // namespace osprey
