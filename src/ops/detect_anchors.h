// From dense heads to detections in one op: scores, decoding, non-maximum suppression and the best
// `max_detections` of each image, as TensorFlow's Object Detection API and AutoML's EfficientDet do it. The
// result is that of ranking every anchor and class, but candidates are ranked only as far down as the last
// detection needs.
//
// For each level l: scores_l f32[N,A*C,H,W] (anchor outer; C = classes, one more where a background column
// comes first) and deltas_l f32[N,A*4,H,W], alternating; last geometry f32[N,6] (ops/resize_image.h).
//   -> boxes f32[D,5] (image, x0, y0, x1, y1) in network pixels, scores f32[D], classes i32[D],
//      rows i32[D]: the anchor's index in its image, in the order level, y, x, anchor
// Image by image, by descending score; equal scores: lower class first (all classes are alike with
// `agnostic`), then lower anchor.
//
// The anchor a of cell (y, x) of level l is cells[l, a] moved by ((x + offset) * stride, (y + offset) *
// stride); with `clip_anchors` then clipped to the canvas. Decoding (no +1):
//   centre' = centre + d * size / weight, size' = size * exp(min(d / weight, max_log_scale)).
// A candidate whose score or box holds a NaN is dropped; infinite coordinates are as good as others.
//
// Suppression goes from the best candidate down, within a class or, with `agnostic`, over all: a box is
// dropped whose IoU with a kept one is > iou; one without area overlaps nothing. With soft_sigma > 0 the
// score is also multiplied by exp(-0.5 * IoU^2 / soft_sigma) for every kept box, in the order of TensorFlow's
// NonMaxSuppressionV5: a decayed candidate goes back among the others while its score is > threshold, and
// the score that comes out is the decayed one.
#pragma once

#include "graph/box_rules.h"
#include "graph/infer.h"

namespace osprey {

// How the columns of an anchor become scores. *SkipFirst: the first column is the background, which takes
// part in the softmax and is no candidate.
enum class AnchorScores : std::uint8_t { kSigmoid, kSigmoidSkipFirst, kSoftmaxSkipFirst };
inline constexpr std::array<std::string_view, 3> kAnchorScoresNames{"sigmoid", "sigmoid_skip_first",
                                                                    "softmax_skip_first"};
constexpr const auto& enum_names(AnchorScores) { return kAnchorScoresNames; }

struct DetectAnchors {
  static constexpr std::string_view kName = "detect_anchors";
  // Network pixels between cells: one number a level, or two (vertical, horizontal).
  std::vector<float> strides;
  std::vector<float> offsets;      // of the cells' origins, in strides; as many numbers as strides
  int anchors = 3, classes = 1;    // A, and classes without background
  std::vector<int> level_anchors;  // A of each level, where they differ; empty: `anchors` on all
  std::vector<float> cells;        // [levels, A, 4]: x0, y0, x1, y1 around the cell's origin
  AnchorScores scores = AnchorScores::kSigmoid;
  std::vector<float> weights{1, 1, 1, 1};  // of x, y, width, height, whatever delta_order is
  float max_log_scale = 0;                 // 0: no limit
  DeltaOrder delta_order = DeltaOrder::kYxhw;
  bool clip_anchors = false;
  int canvas_height = 0, canvas_width = 0;  // for clip_anchors; 0: the geometry's clip extents
  bool best_class_only = false;             // an anchor stands for its best logit alone (ties: lower class)
  bool agnostic = false;                    // boxes of different classes suppress each other
  float threshold = 0;                      // a score must be above it
  float iou = 0.5f;
  float soft_sigma = 0;      // 0: hard suppression only
  int max_per_class = 0;     // boxes kept of a class (of all, with `agnostic`) before clipping; 0: no limit
  int max_detections = 100;  // an image
  KeptClip clip = KeptClip::kNone;
  int stage = 2;  // 1: proposals, 2: final detections; says which run-time thresholds apply
  void fields(auto&& f) {
    f("strides", strides), f("offsets", offsets), f("anchors", anchors), f("classes", classes),
        f("level_anchors", level_anchors), f("cells", cells), f("scores", scores), f("weights", weights),
        f("max_log_scale", max_log_scale), f("delta_order", delta_order), f("clip_anchors", clip_anchors),
        f("canvas_height", canvas_height), f("canvas_width", canvas_width),
        f("best_class_only", best_class_only), f("agnostic", agnostic), f("threshold", threshold),
        f("iou", iou), f("soft_sigma", soft_sigma), f("max_per_class", max_per_class),
        f("max_detections", max_detections), f("clip", clip), f("stage", stage);
  }

  std::size_t levels() const {
    if (!level_anchors.empty()) return level_anchors.size();
    return anchors > 0 ? cells.size() / 4 / static_cast<std::size_t>(anchors) : 0;
  }
  std::int64_t anchors_of(std::size_t level) const {
    return level_anchors.empty() ? anchors : level_anchors[level];
  }
  // Where a level's begin in cells, counted in anchors; behind the last level: how many there are.
  std::int64_t first_cell(std::size_t level) const {
    std::int64_t first = 0;
    for (std::size_t l = 0; l < level; ++l) first += anchors_of(l);
    return first;
  }
  // Columns of an anchor, and the first that is a class.
  std::int64_t columns() const { return std::int64_t{classes} + first_column(); }
  int first_column() const { return scores == AnchorScores::kSigmoid ? 0 : 1; }
  // A number of strides or offsets: axis 0 vertical, 1 horizontal.
  float of_level(const std::vector<float>& list, std::size_t level, std::size_t axis) const {
    return list.size() == levels() ? list[level] : list[2 * level + axis];
  }

  std::vector<TensorType> infer(const OpInputs& in) const {
    require(anchors > 0 && classes > 0 && max_detections > 0 && max_per_class >= 0,
            "detect_anchors: anchors {}, classes {}, max_detections {}, max_per_class {}", anchors, classes,
            max_detections, max_per_class);
    const std::size_t count = levels();
    for (const int a : level_anchors) require(a > 0, "detect_anchors: {} anchors on a level", a);
    require(count > 0 && std::ssize(cells) == first_cell(count) * 4,
            "detect_anchors: {} numbers in cells for {} anchors of {} levels", cells.size(),
            first_cell(count), count);
    require(in.count() == 2 * count + 1, "detect_anchors: {} levels need {} inputs, not {}", count,
            2 * count + 1, in.count());
    require((strides.size() == count || strides.size() == 2 * count) && offsets.size() == strides.size(),
            "detect_anchors: {} strides and {} offsets for {} levels", strides.size(), offsets.size(), count);
    for (const float s : strides) require(s > 0, "detect_anchors: a stride of {}", s);
    require(weights.size() == 4, "detect_anchors: {} weights", weights.size());
    for (const float w : weights) require(w > 0, "detect_anchors: a weight of {}", w);
    require(max_log_scale >= 0 && iou >= 0 && soft_sigma >= 0,
            "detect_anchors: max_log_scale {}, iou {}, soft_sigma {}", max_log_scale, iou, soft_sigma);
    require((canvas_height > 0) == (canvas_width > 0) && canvas_height >= 0, "detect_anchors: canvas {}x{}",
            canvas_height, canvas_width);
    for (std::size_t l = 0; l < count; ++l) {
      in.expect(2 * l, "scores", {DType::kF32}, {"N", anchors_of(l) * columns(), "_", "_"});
      in.expect(2 * l + 1, "deltas", {DType::kF32}, {"N", anchors_of(l) * 4, "_", "_"});
      for (const std::size_t axis : {2, 3})
        require(in[2 * l].dims[axis] == in[2 * l + 1].dims[axis],
                "detect_anchors: level {} has scores {}, but deltas {}", l, to_string(in[2 * l]),
                to_string(in[2 * l + 1]));
    }
    in.expect(2 * count, "geometry", {DType::kF32}, {"N", 6});
    const Dim rows = rows_for_batch(in.dim("N"), max_detections);
    return {{DType::kF32, {rows, 5}}, {DType::kF32, {rows}}, {DType::kI32, {rows}}, {DType::kI32, {rows}}};
  }
};

}  // namespace osprey
