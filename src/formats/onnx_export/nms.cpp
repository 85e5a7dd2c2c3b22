// Non-maximum suppression (ops/nms.h). ONNX's own works on classes by itself, so each group is a class,
// unless there are at most `offset_limit` boxes: then, as in torchvision, there is one class, and the groups
// are moved apart.
#include "ops/nms.h"

#include <cmath>
#include <limits>
#include <numeric>

#include "formats/onnx_export/lowering.h"
#include "ops/select_anchors.h"

namespace osprey {
namespace {

constexpr float kLowest = std::numeric_limits<float>::lowest();

// How many groups the candidates can have.
std::int64_t group_count(const Emitter& e, const Node& node) {
  const Node* from = e.graph().producer(node.inputs[2]);
  check(from != nullptr, "{}: nothing makes its groups", node.name);
  if (const auto* anchors = from->op.as<SelectAnchors>())
    return anchors->group == AnchorGroup::kClass ? anchors->classes
                                                 : static_cast<std::int64_t>(anchors->strides.size());
  require(from->op.name() == "select_boxes", "{}: groups made by {} cannot be exported", node.name,
          from->op.name());
  return e.graph().value(from->inputs[1]).type.dims[1].constant() - 1;
}

struct Candidates {
  std::string boxes, scores, groups;
};

// In one go: group * (largest coordinate + 1) is added to the boxes, and all are of group 0.
Candidates moved_apart(Emitter& e, const Candidates& c, int limit) {
  const std::string in_one_go = e.op("LessOrEqual", {e.length(c.scores), e.ints({limit})});
  // An empty list has no largest element; the lowest float does not change any other list's.
  const std::string all =
      e.op("Concat", {e.reshape(c.boxes, {-1}), e.floats({kLowest})}, {{"axis", std::int64_t{0}}});
  const std::string distance = e.op("Add", {e.op("ReduceMax", {all}), e.number(1.0f)});
  const std::string offset = e.op("Mul", {e.cast(c.groups, DType::kF32), distance});
  return {e.op("Where", {in_one_go, e.op("Add", {c.boxes, e.add_axis(offset, 1)}), c.boxes}), c.scores,
          e.op("Where", {in_one_go, e.ints({0}), c.groups})};
}

// f32[1,groups,M]: each score in its own group's row, -inf in the others.
std::string scores_by_group(Emitter& e, const Candidates& c, std::int64_t groups) {
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(groups));
  std::iota(numbers.begin(), numbers.end(), 0);
  const std::string own = e.op("Equal", {e.add_axis(e.ints(numbers), 1), e.add_axis(c.groups, 0)});
  const std::string rows =
      e.op("Where", {own, e.add_axis(c.scores, 0), e.number(-std::numeric_limits<float>::infinity())});
  return e.add_axis(rows, 0);
}

}  // namespace

void lower_nms(Emitter& e, const Node& node) {
  const Nms& op = *node.op.as<Nms>();
  const Candidates all{e.name(node.inputs[0]), e.name(node.inputs[1]), e.name(node.inputs[2])};
  const std::int64_t groups = group_count(e, node);
  Candidates c = groups > 1 && op.offset_limit > 0 ? moved_apart(e, all, op.offset_limit) : all;
  float iou = op.iou;
  if (op.inclusive) {
    c.boxes = e.op("Add", {c.boxes, e.floats({0, 0, 1, 1})});
    // At least the threshold is above the number before it; without suppression, above what IoUs reach.
    iou = iou > 0 ? std::nextafter(iou, 0.0f) : 1.0f;
  }
  // Boxes that the clip empties do not count among the detections, so there may have to be more.
  const std::string of_group = op.max_per_group > 0              ? e.ints({op.max_per_group})
                               : op.clip == KeptClip::kDropEmpty ? e.length(c.scores)
                                                                 : e.ints({op.max_detections});
  const std::string kept = e.op("NonMaxSuppression", {e.add_axis(c.boxes, 0), scores_by_group(e, c, groups),
                                                      of_group, e.floats({iou}), e.floats({kLowest})});
  std::string rows = e.reshape(e.columns(kept, 2, 3), {-1});
  // What is found comes group by group. By row first, equal scores then keep the lower row in front.
  if (!op.group_first) rows = e.top(rows, e.length(rows), /*largest=*/false)[0];
  const std::string geometry = e.name(node.inputs[3]);
  const auto boxes_at = [&](const std::string& at) {
    const std::string boxes = e.take(all.boxes, at);
    return op.clip == KeptClip::kNone ? boxes : emit_clip(e, boxes, geometry);
  };
  if (op.clip == KeptClip::kDropEmpty)
    rows = e.take(rows, e.where_true(e.op("Greater", {emit_extent(e, boxes_at(rows)), e.number(0.0f)})));
  const std::string most = e.op("Min", {e.length(rows), e.ints({op.max_detections})});
  const std::string order = e.take(rows, e.top(e.take(all.scores, rows), most)[1]);
  e.bind(node.outputs[0], boxes_at(order));
  e.bind(node.outputs[1], e.take(all.scores, order));
  e.bind(node.outputs[2], e.take(all.groups, order));
}

}  // namespace osprey
