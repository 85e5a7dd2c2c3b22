// Greedy non-maximum suppression within each group of each image, then the best `max_detections` an image.
//
// boxes f32[M,5] (image, x0, y0, x1, y1), scores f32[M], groups i32[M]; rows of one image are contiguous;
// geometry f32[N,6] (ops/resize_image.h), of which the batch counts, and for `clip` the clip extents
//   -> boxes f32[D,5], scores f32[D], groups i32[D], image by image, by descending score (ties: lower row)
//
// A box is suppressed by a better one when intersection / union > iou (strictly), areas without +1.
// `offset_limit` keeps a quirk of torchvision's batched_nms on the CPU: an image with at most that many
// candidates is suppressed in one go, with group * (largest coordinate + 1) added to its boxes in float32,
// whose rounding can flip a pair right at the threshold; above it each group is handled by itself, exactly.
//
// TensorFlow's multiclass suppression (its Object Detection API): offset_limit 0, max_per_group boxes are
// kept of a group, then clipped (graph/box_rules.h), and equal scores are taken by group, then row.
//
// `inclusive` (graph/box_rules.h), maskrcnn-benchmark's: sides and areas with +1, a box is suppressed when
// the quotient is >= iou, and with an iou of 0 none is. (Where scores equal the last detection's, that
// framework keeps more than max_detections.)
#pragma once

#include "graph/box_rules.h"
#include "graph/infer.h"

namespace osprey {

struct Nms {
  static constexpr std::string_view kName = "nms";
  float iou = 0.5f;
  int max_detections = 100;  // an image
  int offset_limit = 1000;   // 0: always exact
  int max_per_group = 0;     // boxes kept of a group, before clipping; 0: no limit
  KeptClip clip = KeptClip::kNone;
  bool group_first = false;  // equal scores: lower group first, then lower row
  int stage = 2;             // 1: proposals, 2: final detections; says which run-time thresholds apply
  bool inclusive = false;
  void fields(auto&& f) {
    f("iou", iou), f("max_detections", max_detections), f("offset_limit", offset_limit),
        f("max_per_group", max_per_group), f("clip", clip), f("group_first", group_first), f("stage", stage),
        f("inclusive", inclusive);
  }

  std::vector<TensorType> infer(const OpInputs& in) const {
    in.expect_count(4, 4);
    in.expect(0, "boxes", {DType::kF32}, {"M", 5});
    in.expect(1, "scores", {DType::kF32}, {"M"});
    in.expect(2, "groups", {DType::kI32}, {"M"});
    in.expect(3, "geometry", {DType::kF32}, {"N", 6});
    require(iou >= 0 && max_detections > 0 && max_per_group >= 0,
            "nms: iou {}, max_detections {}, max_per_group {}", iou, max_detections, max_per_group);
    require(
        offset_limit == 0 || (max_per_group == 0 && clip == KeptClip::kNone && !group_first && !inclusive),
        "nms: offset_limit {} goes with no rule of TensorFlow's or maskrcnn-benchmark's", offset_limit);
    const Dim rows = rows_for_batch(in.dim("N"), max_detections);
    return {{DType::kF32, {rows, 5}}, {DType::kF32, {rows}}, {DType::kI32, {rows}}};
  }
};

}  // namespace osprey
