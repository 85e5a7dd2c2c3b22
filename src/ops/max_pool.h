// Maximum over windows; what lies outside the map does not take part. x [N,C,H,W].
// A 1x1 window with stride 2 keeps every second pixel (Detectron2's LastLevelMaxPool, p6 from p5).
#pragma once

#include "graph/infer.h"

namespace osprey {

struct MaxPool {
  static constexpr std::string_view kName = "max_pool";
  std::vector<int> kernel{3, 3}, stride{2, 2};  // vertical, horizontal
  std::vector<int> pads{0, 0, 0, 0};            // top, left, bottom, right
  void fields(auto&& f) { f("kernel", kernel), f("stride", stride), f("pads", pads); }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(1, 1);
    in.expect(0, "x", kFloats, {"N", "C", "H", "W"});
    expect_list(kName, "kernel", kernel, 2, 1);
    expect_list(kName, "stride", stride, 2, 1);
    expect_list(kName, "pads", pads, 4, 0);
    require(pads[0] < kernel[0] && pads[2] < kernel[0] && pads[1] < kernel[1] && pads[3] < kernel[1],
            "max_pool: padding must be smaller than the window");
    return {in[0].dtype,
            {in.dim("N"), in.dim("C"), window_extent(in.dim("H"), kernel[0], stride[0], 1, pads[0], pads[2]),
             window_extent(in.dim("W"), kernel[1], stride[1], 1, pads[1], pads[3])}};
  }
};

}  // namespace osprey
