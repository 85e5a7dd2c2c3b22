// Second stage: moving boxes by deltas, choosing (box, class) pairs, and the maps of the class found.
#include "formats/onnx_export/lowering.h"
#include "ops/decode_boxes.h"
#include "ops/rescale_boxes.h"
#include "ops/select_boxes.h"
#include "ops/select_class.h"

namespace osprey {

std::string emit_decode(Emitter& e, const std::string& boxes, const std::string& given,
                        const std::vector<float>& weights, float max_log_scale, DeltaOrder order,
                        bool inclusive) {
  const std::string deltas = order == DeltaOrder::kXywh
                                 ? given
                                 : e.op("Gather", {given, e.ints({1, 0, 3, 2})}, {{"axis", std::int64_t{1}}});
  const std::string low = e.columns(boxes, 0, 2), pixel = e.number(1.0f), half = e.number(0.5f);
  std::string size = e.op("Sub", {e.columns(boxes, 2, 4), low});
  if (inclusive) size = e.op("Add", {size, pixel});
  const std::string centre = e.op("Add", {low, e.op("Mul", {half, size})});
  const std::string move = e.op("Div", {e.columns(deltas, 0, 2), e.floats({weights[0], weights[1]})});
  std::string grow = e.op("Div", {e.columns(deltas, 2, 4), e.floats({weights[2], weights[3]})});
  if (max_log_scale > 0) grow = e.op("Min", {grow, e.number(max_log_scale)});
  const std::string new_centre = e.op("Add", {e.op("Mul", {move, size}), centre});
  const std::string new_half = e.op("Mul", {half, e.op("Mul", {e.op("Exp", {grow}), size})});
  std::string last = e.op("Add", {new_centre, new_half});
  if (inclusive) last = e.op("Sub", {last, pixel});
  return e.op("Concat", {e.op("Sub", {new_centre, new_half}), last}, {{"axis", std::int64_t{1}}});
}

std::string emit_extent(Emitter& e, const std::string& boxes) {
  const std::string size = e.op("Sub", {e.columns(boxes, 2, 4), e.columns(boxes, 0, 2)});
  return e.op("ReduceMin", {size}, {{"axes", std::vector<std::int64_t>{1}}, {"keepdims", std::int64_t{0}}});
}

std::string emit_clip(Emitter& e, const std::string& boxes, const std::string& geometry, bool inclusive) {
  const std::string last = inclusive ? e.op("Sub", {geometry, e.number(1.0f)}) : geometry;
  return e.op("Min", {e.op("Max", {boxes, e.number(0.0f)}), last});
}

// Only of proposals made beforehand, which here are in pixels of `image`, as the network's boxes are.
void lower_rescale_boxes(Emitter& e, const Node& node) {
  const RescaleBoxes& op = *node.op.as<RescaleBoxes>();
  check(op.to_network, "{}: is behind the exported part", node.name);
  const std::string given = e.name(node.inputs[0]);
  const std::string one = e.columns(given, 0, 2), other = e.columns(given, 2, 4);
  std::string boxes =
      e.op("Concat", {e.op("Min", {one, other}), e.op("Max", {one, other})}, {{"axis", std::int64_t{1}}});
  if (op.clip) {
    boxes = emit_clip(e, boxes, e.name(node.inputs[1]));
    boxes = e.take(boxes, e.where_true(e.op("Greater", {emit_extent(e, boxes), e.number(op.min_size)})));
  }
  if (op.top > 0) boxes = e.op("Slice", {boxes, e.ints({0}), e.ints({op.top}), e.ints({0})});
  e.bind(node.outputs[0], boxes);
}

void lower_decode_boxes(Emitter& e, const Node& node) {
  const DecodeBoxes& op = *node.op.as<DecodeBoxes>();
  std::string boxes =
      emit_decode(e, e.name(node.inputs[0]), e.name(node.inputs[1]), op.weights, op.max_log_scale);
  if (op.clip) boxes = emit_clip(e, boxes, e.name(node.inputs[2]));
  e.bind(node.outputs[0], boxes);
}

void lower_select_boxes(Emitter& e, const Node& node) {
  const SelectBoxes& op = *node.op.as<SelectBoxes>();
  const std::string rois = e.name(node.inputs[0]), scores = e.name(node.inputs[1]),
                    given = e.name(node.inputs[2]);
  const std::int64_t classes = e.graph().value(node.inputs[1]).type.dims[1].constant() - 1;
  const std::int64_t columns = e.graph().value(node.inputs[2]).type.dims[1].constant();
  const std::int64_t first_delta = op.background_deltas ? 4 : 0;
  const bool agnostic = columns - first_delta == 4;
  const std::string deltas = first_delta > 0 ? e.columns(given, first_delta, columns) : given;

  const std::int64_t first = op.background_first ? 1 : 0;
  const std::string own = e.columns(scores, first, first + classes);  // without the background
  const std::string finite = e.op("And", {e.finite_rows(scores), e.finite_rows(deltas)});
  const std::string chosen =
      e.op("And", {e.op("Greater", {own, e.number(op.threshold)}), e.add_axis(finite, 1)});
  // [2, M]: row and class of each, in the order of rows, then classes.
  const std::string pairs = e.op("NonZero", {chosen});
  const std::string row = e.take(pairs, e.number(std::int64_t{0})),
                    type = e.take(pairs, e.number(std::int64_t{1}));
  const std::string delta_row = agnostic ? row : e.op("Add", {e.op("Mul", {row, e.number(classes)}), type});
  const std::string moved = emit_decode(e, e.take(rois, row), e.take(e.reshape(deltas, {-1, 4}), delta_row),
                                        op.weights, op.max_log_scale, op.delta_order, op.inclusive);
  e.bind(node.outputs[0], op.clip ? emit_clip(e, moved, e.name(node.inputs[3]), op.inclusive) : moved);
  const std::string places = e.op("Transpose", {pairs}, {{"perm", std::vector<std::int64_t>{1, 0}}});
  e.bind(node.outputs[1], e.op("GatherND", {own, places}));
  e.bind(node.outputs[2], type);
}

void lower_select_class(Emitter& e, const Node& node) {
  const std::string maps = e.name(node.inputs[0]);
  const bool agnostic = e.graph().value(node.inputs[0]).type.dims[1].constant() == 1;
  const std::int64_t first = node.op.as<SelectClass>()->first;
  std::string map = e.name(node.inputs[1]);
  if (first > 0 && !agnostic) map = e.op("Add", {map, e.number(first)});
  const std::string own =
      agnostic ? e.op("Squeeze", {maps, e.ints({1})})
               : e.op("GatherND", {maps, e.add_axis(map, 1)}, {{"batch_dims", std::int64_t{1}}});
  e.bind(node.outputs[0], e.op("Sigmoid", {own}));
}

}  // namespace osprey
