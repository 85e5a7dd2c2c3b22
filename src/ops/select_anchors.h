// From dense heads to candidate boxes: on each level the best anchors by score are decoded.
//
// For each level l: scores_l f32[N,A*K,H,W] (anchor outer, class inner) and deltas_l f32[N,A*4,H,W]
// (anchor outer; dx, dy, dw, dh), alternating; last geometry f32[N,6] (ops/resize_image.h).
//   -> boxes f32[M,5] (image, x0, y0, x1, y1) in network pixels, scores f32[M], groups i32[M]
// Rows go image by image, level by level, by descending score; equal scores keep the lower index first, in
// the order y, x, anchor, class.
//
// The anchor a of cell (y, x) is cells[a] + ((x + offset) * stride, (y + offset) * stride). Decoding (no +1):
//   centre' = centre + d * size / weight, size' = size * exp(min(d / weight, max_log_scale)).
// RPN (Detectron2's find_top_rpn_proposals): K = 1, by raw logit, clipped, boxes without extent dropped,
// groups = level. RetinaNet: sigmoid scores above the threshold, not clipped, groups = class.
// Rows with a score or coordinate that is not finite are dropped.
//
// `inclusive` (graph/box_rules.h) adds 1 to the sides before decoding and takes it off the last corner again;
// clips to the image's last pixel; and drops boxes with a side below min_size, not those that equal it.
#pragma once

#include "graph/enums.h"
#include "graph/infer.h"

namespace osprey {

enum class AnchorGroup : std::uint8_t { kLevel, kClass };
inline constexpr std::array<std::string_view, 2> kAnchorGroupNames{"level", "class"};
constexpr const auto& enum_names(AnchorGroup) { return kAnchorGroupNames; }

struct SelectAnchors {
  static constexpr std::string_view kName = "select_anchors";
  std::vector<int> strides;                   // network pixels between cells, one a level
  int anchors = 3, classes = 1;               // A and K
  std::vector<float> cells;                   // [levels, anchors, 4]: x0, y0, x1, y1 around the cell's origin
  float offset = 0;                           // of the origin, in strides
  Activation activation = Activation::kNone;  // none: compare raw scores; sigmoid
  bool has_threshold = false;
  float threshold = 0;  // an activated score must be above it
  int top = 1000;       // candidates a level and image
  std::vector<float> weights{1, 1, 1, 1};
  float max_log_scale = 4.1351665567f;  // ln(1000 / 16)
  bool clip = true;                     // to the image
  bool drop_empty = true;               // boxes whose width or height is not above min_size
  float min_size = 0;
  AnchorGroup group = AnchorGroup::kLevel;
  int stage = 2;  // 1: proposals, 2: final detections; says which run-time thresholds apply
  bool inclusive = false;
  void fields(auto&& f) {
    f("strides", strides), f("anchors", anchors), f("classes", classes), f("cells", cells),
        f("offset", offset), f("activation", activation), f("has_threshold", has_threshold),
        f("threshold", threshold), f("top", top), f("weights", weights), f("max_log_scale", max_log_scale),
        f("clip", clip), f("drop_empty", drop_empty), f("min_size", min_size), f("group", group),
        f("stage", stage), f("inclusive", inclusive);
  }

  std::vector<TensorType> infer(const OpInputs& in) const {
    const std::size_t levels = strides.size();
    require(levels > 0 && in.count() == 2 * levels + 1, "select_anchors: {} levels need {} inputs, not {}",
            levels, 2 * levels + 1, in.count());
    require(anchors > 0 && classes > 0 && top > 0, "select_anchors: anchors {}, classes {}, top {}", anchors,
            classes, top);
    require(cells.size() == levels * static_cast<std::size_t>(anchors) * 4,
            "select_anchors: {} numbers in cells for {} levels of {} anchors", cells.size(), levels, anchors);
    require(weights.size() == 4, "select_anchors: {} weights", weights.size());
    for (std::size_t l = 0; l < levels; ++l) {
      in.expect(2 * l, "scores", {DType::kF32}, {"N", anchors * classes, "_", "_"});
      in.expect(2 * l + 1, "deltas", {DType::kF32}, {"N", anchors * 4, "_", "_"});
    }
    in.expect(2 * levels, "geometry", {DType::kF32}, {"N", 6});
    const Dim rows = rows_for_batch(in.dim("N"), static_cast<std::int64_t>(levels) * top);
    return {{DType::kF32, {rows, 5}}, {DType::kF32, {rows}}, {DType::kI32, {rows}}};
  }
};

}  // namespace osprey
