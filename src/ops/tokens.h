// The pixels of one or more maps [N,C,H_i,W_i] as rows: of each image in turn, map after map, each row by
// row. The extents of the maps are constants. -> [N*T,C] with T the sum of H_i*W_i.
#pragma once

#include "graph/infer.h"

namespace osprey {

struct Tokens {
  static constexpr std::string_view kName = "tokens";
  void fields(auto&&) {}

  TensorType infer(const OpInputs& in) const {
    require(in.count() >= 1, "tokens: no inputs");
    std::int64_t pixels = 0;
    for (std::size_t i = 0; i < in.count(); ++i) {
      in.expect(i, fmt::format("x{}", i), kFloats, {"N", "C", "_", "_"});
      require(in[i].dtype == in[0].dtype, "tokens: {} beside {}", to_string(in[i]), to_string(in[0]));
      pixels += in[i].dims[2].constant() * in[i].dims[3].constant();
    }
    return {in[0].dtype, {in.dim("N") * pixels, in.dim("C")}};
  }
};

}  // namespace osprey
