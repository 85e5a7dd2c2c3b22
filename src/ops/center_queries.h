// Heatmaps of object centres as queries (Zhou et al., "Objects as points", 2019), one a pixel, which
// detect_queries ranks. A class's logit is kept where its score, the sigmoid, lies within 1e-6 of the highest
// in the window of `peak` x `peak` pixels around it; elsewhere it becomes -infinity. A pixel's box has its
// centre at the pixel (a whole number) plus the offset, and sides that are 0 where they are negative; its
// corners are clipped to the map, then to the geometry's clip extents.
//
// As in TensorFlow's Object Detection API pixels outside of the clip extents have no score; but what is
// compared with those, which count network pixels, are pixels of the map.
//
// logits f32 [N,K,H,W], sizes f32 [N,2,H,W] (height, width) and offsets f32 [N,2,H,W] (y, x) in pixels of the
// map, geometry f32 [N,6]; `stride`: network pixels a pixel of the map
//   -> logits f32 [N*H*W,K], boxes f32 [N*H*W,4]: cx, cy, width, height in fractions of the clip extents
#pragma once

#include "graph/infer.h"

namespace osprey {

struct CenterQueries {
  static constexpr std::string_view kName = "center_queries";
  static constexpr float kPeakEpsilon = 1e-6f;
  int peak = 3;  // 1: every pixel
  int stride = 4;
  void fields(auto&& f) { f("peak", peak), f("stride", stride); }

  // Of the window; below them, what TensorFlow's SAME puts there.
  int before() const { return (peak - 1) / 2; }

  std::vector<TensorType> infer(const OpInputs& in) const {
    in.expect_count(4, 4);
    in.expect(0, "logits", {DType::kF32}, {"N", "K", "H", "W"});
    in.expect(1, "sizes", {DType::kF32}, {"N", 2, "H", "W"});
    in.expect(2, "offsets", {DType::kF32}, {"N", 2, "H", "W"});
    in.expect(3, "geometry", {DType::kF32}, {"N", 6});
    require(peak >= 1 && peak <= 255, "center_queries: a window of {} pixels", peak);
    require(stride >= 1, "center_queries: stride {}", stride);
    const Dim rows = in.dim("N") * (in.dim("H").constant() * in.dim("W").constant());
    return {{DType::kF32, {rows, in.dim("K")}}, {DType::kF32, {rows, 4}}};
  }
};

}  // namespace osprey
