// The channels of two or more maps [N,C_i,H,W], one after the other.
#pragma once

#include "graph/element_types.h"
#include "graph/infer.h"

namespace osprey {

struct Concat {
  static constexpr std::string_view kName = "concat";
  void fields(auto&&) {}

  TensorType infer(const OpInputs& in) const {
    require(in.count() >= 2, "concat: {} inputs", in.count());
    Dim channels = 0;
    for (std::size_t i = 0; i < in.count(); ++i) {
      in.expect(i, fmt::format("x{}", i), kStored, {"N", "_", "H", "W"});
      require(in[i].dtype == in[0].dtype, "concat: {} beside {}", to_string(in[i]), to_string(in[0]));
      channels = channels + in[i].dims[1].constant();
    }
    return {in[0].dtype, {in.dim("N"), channels, in.dim("H"), in.dim("W")}};
  }
};

}  // namespace osprey
