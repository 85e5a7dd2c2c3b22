// Second stage candidates: every (box, class) whose score is above the threshold, decoded and clipped
// (Detectron2's fast_rcnn_inference before its NMS).
//
// rois f32[R,5], scores f32[R,K+1] (probabilities, background LAST unless `background_first`), deltas
// f32[R,4*K] (class outer, no background) or f32[R,4] (class-agnostic), geometry f32[N,6]
//   -> boxes f32[M,5], scores f32[M], classes i32[M]
// Rows in the order of rois, then class. With `clip` a roi with any score or coordinate that is not finite is
// dropped; without it (TensorFlow clips after suppression) each row is judged by itself, and dropped when it
// holds a NaN. Decoding as in ops/select_anchors.h; `weights` are of x, y, width, height, whatever
// delta_order is.
//
// With `background_deltas` the deltas have four columns more, in front, for the background: f32[R,4+4*K] or
// f32[R,8]. `inclusive` (graph/box_rules.h) is as in ops/select_anchors.h.
#pragma once

#include "graph/box_rules.h"
#include "graph/infer.h"

namespace osprey {

struct SelectBoxes {
  static constexpr std::string_view kName = "select_boxes";
  float threshold = 0.05f;  // a score must be above it
  std::vector<float> weights{10, 10, 5, 5};
  float max_log_scale = 4.1351665567f;  // ln(1000 / 16); 0: no limit
  DeltaOrder delta_order = DeltaOrder::kXywh;
  bool background_first = false;
  bool clip = true;  // to the geometry's clip extents
  bool background_deltas = false;
  bool inclusive = false;
  void fields(auto&& f) {
    f("threshold", threshold), f("weights", weights), f("max_log_scale", max_log_scale),
        f("delta_order", delta_order), f("background_first", background_first), f("clip", clip),
        f("background_deltas", background_deltas), f("inclusive", inclusive);
  }

  std::vector<TensorType> infer(const OpInputs& in) const {
    in.expect_count(4, 4);
    in.expect(0, "rois", {DType::kF32}, {"R", 5});
    in.expect(1, "scores", {DType::kF32}, {"R", "K1"});
    in.expect(2, "deltas", {DType::kF32}, {"R", "D"});
    in.expect(3, "geometry", {DType::kF32}, {"N", 6});
    const std::int64_t classes = in.dim("K1").constant() - 1;
    const std::int64_t deltas = in.dim("D").constant() - (background_deltas ? 4 : 0);
    require(classes >= 1 && (deltas == 4 || deltas == 4 * classes), "select_boxes: {} deltas for {} classes",
            in.dim("D").constant(), classes);
    require(weights.size() == 4, "select_boxes: {} weights", weights.size());
    require(max_log_scale >= 0, "select_boxes: max_log_scale {}", max_log_scale);
    const Dim rows = Dim::at_most(in.dim("R") * classes);
    return {{DType::kF32, {rows, 5}}, {DType::kF32, {rows}}, {DType::kI32, {rows}}};
  }
};

}  // namespace osprey
