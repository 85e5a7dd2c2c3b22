// First stage: the best anchors of each level, decoded (ops/select_anchors.h).
#include "formats/onnx_export/lowering.h"
#include "ops/select_anchors.h"

namespace osprey {
namespace {

struct Candidates {
  std::string boxes, scores, groups;
};

// Keeps the rows where the condition holds.
void keep(Emitter& e, Candidates& c, const std::string& condition) {
  const std::string rows = e.where_true(condition);
  for (std::string* part : {&c.boxes, &c.scores, &c.groups}) *part = e.take(*part, rows);
}

// [1,C,H,W] -> channels last, flattened.
std::string channels_last(Emitter& e, const std::string& x, const std::vector<std::int64_t>& shape) {
  return e.reshape(e.op("Transpose", {x}, {{"perm", std::vector<std::int64_t>{0, 2, 3, 1}}}), shape);
}

// The anchors f32[M,4] with the given indices in the order y, x, anchor; `map` is [1,C,H,W].
std::string anchors_at(Emitter& e, const SelectAnchors& op, std::size_t level, const std::string& map,
                       const std::string& index) {
  const std::int64_t anchors = op.anchors;
  const std::string position = e.op("Div", {index, e.number(anchors)});
  const std::string width = e.op("Shape", {map}, {{"start", std::int64_t{3}}, {"end", std::int64_t{4}}});
  const std::string x = e.op("Mod", {position, width}), y = e.op("Div", {position, width});
  const std::string xy =
      e.cast(e.op("Concat", {e.add_axis(x, 1), e.add_axis(y, 1)}, {{"axis", std::int64_t{1}}}), DType::kF32);
  const std::string origin =
      e.op("Mul", {e.op("Add", {xy, e.number(op.offset)}), e.number(static_cast<float>(op.strides[level]))});
  const std::size_t count = static_cast<std::size_t>(anchors) * 4;
  const auto first = op.cells.begin() + static_cast<std::ptrdiff_t>(level * count);
  const std::string cells = e.floats({first, first + static_cast<std::ptrdiff_t>(count)}, {anchors, 4});
  return e.op("Add", {e.take(cells, e.op("Mod", {index, e.number(anchors)})),
                      e.op("Concat", {origin, origin}, {{"axis", std::int64_t{1}}})});
}

Candidates level_candidates(Emitter& e, const SelectAnchors& op, std::size_t level, const std::string& scores,
                            const std::string& deltas, const std::string& geometry) {
  std::string flat = channels_last(e, scores, {-1});
  if (op.activation == Activation::kSigmoid) flat = e.op("Sigmoid", {flat});
  const auto best = e.top(flat, e.op("Min", {e.length(flat), e.ints({op.top})}));
  std::string score = best[0], index = best[1];
  if (op.has_threshold) {
    const std::string rows = e.where_true(e.op("Greater", {score, e.number(op.threshold)}));
    score = e.take(score, rows), index = e.take(index, rows);
  }
  const std::string classes = e.number(std::int64_t{op.classes}), cell = e.op("Div", {index, classes});
  Candidates out;
  out.scores = score;
  out.groups = op.group == AnchorGroup::kClass
                   ? e.op("Mod", {index, classes})
                   : e.op("Expand", {e.ints({static_cast<std::int64_t>(level)}), e.length(score)});
  out.boxes =
      emit_decode(e, anchors_at(e, op, level, scores, cell), e.take(channels_last(e, deltas, {-1, 4}), cell),
                  op.weights, op.max_log_scale, DeltaOrder::kXywh, op.inclusive);
  keep(e, out, e.op("And", {e.finite_rows(out.boxes), e.finite_rows(e.add_axis(out.scores, 1))}));
  if (op.clip) out.boxes = emit_clip(e, out.boxes, geometry, op.inclusive);
  if (op.drop_empty) {
    const std::string side = emit_extent(e, out.boxes), least = e.number(op.min_size);
    keep(e, out,
         op.inclusive ? e.op("GreaterOrEqual", {e.op("Add", {side, e.number(1.0f)}), least})
                      : e.op("Greater", {side, least}));
  }
  return out;
}

}  // namespace

void lower_select_anchors(Emitter& e, const Node& node) {
  const SelectAnchors& op = *node.op.as<SelectAnchors>();
  require(op.activation == Activation::kNone || op.activation == Activation::kSigmoid,
          "{}: its activation cannot be exported", node.name);
  std::vector<std::string> boxes, scores, groups;
  for (std::size_t l = 0; l < op.strides.size(); ++l) {
    const Candidates c = level_candidates(e, op, l, e.name(node.inputs[2 * l]),
                                          e.name(node.inputs[2 * l + 1]), e.name(node.inputs.back()));
    boxes.push_back(c.boxes), scores.push_back(c.scores), groups.push_back(c.groups);
  }
  const Attributes rows{{"axis", std::int64_t{0}}};
  e.bind(node.outputs[0], e.op("Concat", boxes, rows));
  e.bind(node.outputs[1], e.op("Concat", scores, rows));
  e.bind(node.outputs[2], e.op("Concat", groups, rows));
}

}  // namespace osprey
