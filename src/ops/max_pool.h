// Maximum over windows; what lies outside the map does not take part. x [N,C,H,W].
// A 1x1 window with stride 2 keeps every second pixel (Detectron2's LastLevelMaxPool, p6 from p5).
#pragma once

#include "graph/element_types.h"
#include "graph/infer.h"

namespace osprey {

struct MaxPool {
  static constexpr std::string_view kName = "max_pool";
  std::vector<int> kernel{3, 3}, stride{2, 2};  // vertical, horizontal
  std::vector<int> pads{0, 0, 0, 0};            // top, left, bottom, right; without meaning under kSame
  Padding padding = Padding::kExplicit;
  void fields(auto&& f) { f("kernel", kernel), f("stride", stride), f("pads", pads), f("padding", padding); }

  SlidingWindow window() const {
    return {array_of<std::int64_t, 2>(kernel),
            array_of<std::int64_t, 2>(stride),
            {1, 1},
            array_of<int, 4>(pads),
            padding};
  }

  TensorType infer(const OpInputs& in) const {
    in.expect_count(1, 1);
    in.expect(0, "x", kStored, {"N", "C", "H", "W"});
    expect_list(kName, "kernel", kernel, 2, 1);
    expect_list(kName, "stride", stride, 2, 1);
    expect_list(kName, "pads", pads, 4, 0);
    require(pads[0] < kernel[0] && pads[2] < kernel[0] && pads[1] < kernel[1] && pads[3] < kernel[1],
            "max_pool: padding must be smaller than the window");
    const SlidingWindow over = window();
    return {in[0].dtype,
            {in.dim("N"), in.dim("C"), over.extent(0, in.dim("H")), over.extent(1, in.dim("W"))}};
  }
};

}  // namespace osprey
