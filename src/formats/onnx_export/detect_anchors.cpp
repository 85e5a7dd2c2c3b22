// Dense heads to detections (ops/detect_anchors.h): all anchors are decoded and suppressed class by class by
// ONNX's NonMaxSuppression, which takes equal scores in the same order; soft suppression it has not.
#include "ops/detect_anchors.h"

#include <limits>
#include <numeric>

#include "formats/onnx_export/lowering.h"

namespace osprey {
namespace {

const Attributes kRows{{"axis", std::int64_t{0}}};

// [1,A*width,H,W] -> [H*W*A,width].
std::string rows_of(Emitter& e, const std::string& map, std::int64_t width) {
  return e.reshape(e.op("Transpose", {map}, {{"perm", std::vector<std::int64_t>{0, 2, 3, 1}}}), {-1, width});
}

// The anchors f32[H*W*A,4] of a level; `map` is [1,C,H,W].
std::string anchors_of(Emitter& e, const DetectAnchors& op, std::size_t level, const std::string& map,
                       const std::string& deltas) {
  const std::string count = e.op("Squeeze", {e.length(deltas)}), anchors = e.number(op.anchors_of(level));
  const std::string index = e.op("Range", {e.number(std::int64_t{0}), count, e.number(std::int64_t{1})});
  const std::string pixel = e.op("Div", {index, anchors});
  const std::string width = e.op("Shape", {map}, {{"start", std::int64_t{3}}, {"end", std::int64_t{4}}});
  const std::string x = e.op("Mod", {pixel, width}), y = e.op("Div", {pixel, width});
  const std::string xy =
      e.cast(e.op("Concat", {e.add_axis(x, 1), e.add_axis(y, 1)}, {{"axis", std::int64_t{1}}}), DType::kF32);
  const auto pair = [&](const std::vector<float>& list) {
    return e.floats({op.of_level(list, level, 1), op.of_level(list, level, 0)});
  };
  const std::string origin = e.op("Mul", {e.op("Add", {xy, pair(op.offsets)}), pair(op.strides)});
  const auto first = op.cells.begin() + static_cast<std::ptrdiff_t>(op.first_cell(level) * 4);
  const std::string cells = e.floats({first, first + static_cast<std::ptrdiff_t>(op.anchors_of(level) * 4)},
                                     {op.anchors_of(level), 4});
  return e.op("Add", {e.take(cells, e.op("Mod", {index, anchors})),
                      e.op("Concat", {origin, origin}, {{"axis", std::int64_t{1}}})});
}

std::string boxes_of(Emitter& e, const DetectAnchors& op, std::size_t level, const Node& node) {
  const std::string map = e.name(node.inputs[2 * level + 1]), deltas = rows_of(e, map, 4);
  std::string anchors = anchors_of(e, op, level, map, deltas);
  if (op.clip_anchors) {
    const auto h = static_cast<float>(op.canvas_height), w = static_cast<float>(op.canvas_width);
    anchors = emit_clip(e, anchors, h > 0 ? e.floats({w, h, w, h}) : e.name(node.inputs.back()));
  }
  return emit_decode(e, anchors, deltas, op.weights, op.max_log_scale, op.delta_order);
}

// f32[R,classes] from the logits f32[R,columns].
std::string scores_of(Emitter& e, const DetectAnchors& op, const std::string& logits) {
  const std::string scores = op.scores == AnchorScores::kSoftmaxSkipFirst
                                 ? e.op("Softmax", {logits}, {{"axis", std::int64_t{1}}})
                                 : e.op("Sigmoid", {logits});
  return op.first_column() == 0 ? scores : e.columns(scores, 1, op.columns());
}

// What NonMaxSuppression takes: f32[R,groups] with nothing to find (-inf) outside an anchor's best class,
// whose number i64[R] comes along. `agnostic`: one group for all.
struct Best {
  std::string scores, classes;
};
Best best_of(Emitter& e, const DetectAnchors& op, const std::string& scores, const std::string& logits) {
  const std::string own = op.first_column() == 0 ? logits : e.columns(logits, 1, op.columns());
  const std::string classes =
      e.op("ArgMax", {own}, {{"axis", std::int64_t{1}}, {"keepdims", std::int64_t{0}}});
  if (op.agnostic)
    return {e.op("GatherElements", {scores, e.add_axis(classes, 1)}, {{"axis", std::int64_t{1}}}), classes};
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(op.classes));
  std::iota(numbers.begin(), numbers.end(), 0);
  const std::string is_best = e.op("Equal", {e.add_axis(classes, 1), e.add_axis(e.ints(numbers), 0)});
  return {e.op("Where", {is_best, scores, e.number(-std::numeric_limits<float>::infinity())}), classes};
}

}  // namespace

void lower_detect_anchors(Emitter& e, const Node& node) {
  const DetectAnchors& op = *node.op.as<DetectAnchors>();
  require(op.soft_sigma == 0,
          "{}: ONNX has no soft suppression (sigma {}); choose the hard one (EfficientDet: "
          "--set nms_configs.method=hard) to export",
          node.name, op.soft_sigma);
  require(!op.agnostic || op.classes == 1 || op.best_class_only,
          "{}: suppression across classes cannot be exported with several classes an anchor", node.name);
  std::vector<std::string> levels, parts;
  for (std::size_t l = 0; l < op.levels(); ++l) {
    levels.push_back(rows_of(e, e.name(node.inputs[2 * l]), op.columns()));
    parts.push_back(boxes_of(e, op, l, node));
  }
  const std::string logits = e.op("Concat", levels, kRows), boxes = e.op("Concat", parts, kRows);
  const std::string scores = scores_of(e, op, logits);
  Best best{scores, ""};
  const bool one_class = op.best_class_only && op.classes > 1;
  if (one_class) best = best_of(e, op, scores, logits);

  const std::string by_group =
      e.add_axis(e.op("Transpose", {best.scores}, {{"perm", std::vector<std::int64_t>{1, 0}}}), 0);
  // Boxes that the clip empties do not count among the detections, so there may have to be more.
  const std::string most = op.max_per_class > 0              ? e.ints({op.max_per_class})
                           : op.clip == KeptClip::kDropEmpty ? e.length(boxes)
                                                             : e.ints({op.max_detections});
  const std::string kept = e.op("NonMaxSuppression", {e.add_axis(boxes, 0), by_group, most,
                                                      e.floats({op.iou}), e.floats({op.threshold})});
  std::string rows = e.reshape(e.columns(kept, 2, 3), {-1}), groups = e.reshape(e.columns(kept, 1, 2), {-1});
  const std::string place = e.columns(kept, 1, 3);  // group and row
  std::string found = e.op("GatherND", {e.op("Squeeze", {by_group, e.ints({0})}), place});
  std::string found_boxes = e.take(boxes, rows);
  if (op.clip != KeptClip::kNone) found_boxes = emit_clip(e, found_boxes, e.name(node.inputs.back()));
  if (op.clip == KeptClip::kDropEmpty) {
    const std::string whole = e.where_true(e.op("Greater", {emit_extent(e, found_boxes), e.number(0.0f)}));
    for (std::string* part : {&rows, &groups, &found, &found_boxes}) *part = e.take(*part, whole);
  }
  const auto order = e.top(found, e.op("Min", {e.length(found), e.ints({op.max_detections})}));
  e.bind(node.outputs[0], e.take(found_boxes, order[1]));
  e.bind(node.outputs[1], order[0]);
  e.bind(node.outputs[2], e.take(one_class ? e.take(best.classes, rows) : groups, order[1]));
  e.bind(node.outputs[3], e.take(rows, order[1]));
}

}  // namespace osprey
