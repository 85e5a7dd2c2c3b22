// Every channel of a map times a number of its own: x [N,C,H,W], s [N,C] (squeeze and excitation).
#pragma once

#include "graph/infer.h"

namespace osprey {

struct ScaleChannels {
  static constexpr std::string_view kName = "scale_channels";
  void fields(auto&&) {}

  TensorType infer(const OpInputs& in) const {
    in.expect_count(2, 2);
    in.expect(0, "x", kFloats, {"N", "C", "H", "W"});
    in.expect(1, "s", kFloats, {"N", "C"});
    require(in[1].dtype == in[0].dtype, "scale_channels: {} times {}", to_string(in[0]), to_string(in[1]));
    return in[0];
  }
};

}  // namespace osprey
