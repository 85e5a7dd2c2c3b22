// A DETR's choice of queries and detections, its boxes and its masks. Each image of the batch has the same
// number of each, so that rows are [N*Q].
#include "formats/onnx_export/lowering.h"
#include "ops/detect_queries.h"
#include "ops/mask_logits.h"
#include "ops/refine_boxes.h"
#include "ops/select_queries.h"

namespace osprey {
namespace {

const Attributes kFirstAxis{{"axis", std::int64_t{1}}};
const Attributes kNotKept{{"keepdims", std::int64_t{0}}};

std::int64_t extent(const Emitter& e, ValueId id, std::size_t i) {
  return e.graph().value(id).type.dims.at(i).constant();
}

// The best `count` of each row of x [N,T]: values and indices, descending, equal ones by lower index.
std::vector<std::string> best(Emitter& e, const std::string& x, std::int64_t count) {
  return e.ops("TopK", {x, e.ints({count})}, 2, kFirstAxis);
}

// i64[N*count]: places i64[N,count] within the images' `per_image` rows as rows of all images.
std::string rows_of_batch(Emitter& e, const std::string& places, std::int64_t per_image) {
  const std::string images = e.op("Squeeze", {e.length(places)});
  const std::string first = e.op(
      "Mul",
      {e.op("Range", {e.number(std::int64_t{0}), images, e.number(std::int64_t{1})}), e.number(per_image)});
  return e.reshape(e.op("Add", {places, e.add_axis(first, 1)}), {-1});
}

// log(v / (1 - v)) of v held in 0..1, both parts at least `epsilon`.
std::string box_logit(Emitter& e, const std::string& v, float epsilon) {
  const std::string held = e.op("Clip", {v, e.number(0.0f), e.number(1.0f)});
  const std::string least = e.number(epsilon), rest = e.op("Sub", {e.number(1.0f), held});
  return e.op("Log", {e.op("Div", {e.op("Max", {held, least}), e.op("Max", {rest, least})})});
}

// (cx, cy, w, h) as corners, times (width, height, width, height) of the image.
std::string corners(Emitter& e, const std::string& boxes, const std::string& geometry) {
  const std::string centre = e.columns(boxes, 0, 2);
  const std::string half = e.op("Mul", {e.columns(boxes, 2, 4), e.number(0.5f)});
  const std::string both =
      e.op("Concat", {e.op("Sub", {centre, half}), e.op("Add", {centre, half})}, kFirstAxis);
  return e.op("Mul", {both, geometry});
}

}  // namespace

void lower_select_queries(Emitter& e, const Node& node) {
  const SelectQueries& op = *node.op.as<SelectQueries>();
  const std::string scores = e.op("ReduceMax", {e.name(node.inputs[0])},
                                  {{"axes", std::vector<std::int64_t>{1}}, {"keepdims", std::int64_t{0}}});
  const std::string places = best(e, e.reshape(scores, {-1, op.tokens}), op.top)[1];
  e.bind(node.outputs[0], rows_of_batch(e, places, op.tokens));
}

// All of an image's `top` are given, whatever their scores, so that images have as many each; how many are
// above the threshold is counted where the outputs are written.
void lower_detect_queries(Emitter& e, const Node& node) {
  const DetectQueries& op = *node.op.as<DetectQueries>();
  const std::int64_t classes = extent(e, node.inputs[0], 1);
  const std::string scores = e.op("Sigmoid", {e.name(node.inputs[0])});
  const auto found = best(e, e.reshape(scores, {-1, op.queries * classes}), op.top);
  const std::string queries = e.op("Div", {found[1], e.number(classes)});
  const std::string rows = rows_of_batch(e, queries, op.queries);
  e.bind(node.outputs[0], corners(e, e.take(e.name(node.inputs[1]), rows), e.name(node.inputs[2])));
  e.bind(node.outputs[1], e.reshape(found[0], {-1}));
  e.bind(node.outputs[2], e.reshape(e.op("Mod", {found[1], e.number(classes)}), {-1}));
  e.bind(node.outputs[3], rows);
}

void lower_refine_boxes(Emitter& e, const Node& node) {
  const std::string logit = box_logit(e, e.name(node.inputs[1]), node.op.as<RefineBoxes>()->epsilon);
  e.bind(node.outputs[0], e.op("Sigmoid", {e.op("Add", {e.name(node.inputs[0]), logit})}));
}

// Prototypes [N,P,H,W] and rows [N*R,P].
void lower_mask_logits(Emitter& e, const Node& node) {
  const std::int64_t depth = extent(e, node.inputs[0], 1), height = extent(e, node.inputs[1], 2),
                     width = extent(e, node.inputs[1], 3);
  const std::string prototypes = e.reshape(e.name(node.inputs[1]), {0, depth, height * width});
  const std::string images = e.length(prototypes);
  const std::string shape = e.op("Concat", {images, e.ints({-1, depth})}, {{"axis", std::int64_t{0}}});
  const std::string rows = e.op("Reshape", {e.name(node.inputs[0]), shape});
  e.bind(node.outputs[0], e.reshape(e.op("MatMul", {rows, prototypes}), {-1, height, width}));
}

void lower_mask_boxes(Emitter& e, const Node& node) {
  const std::string& logits = e.name(node.inputs[0]);
  // First and one past the last of a side's pixels above 0, as shares of it: f32[M,1].
  struct Side {
    std::string low, high;
  };
  const auto side = [&](std::int64_t across, std::int64_t pixels) {
    const std::string most = e.op(
        "ReduceMax", {logits}, {{"axes", std::vector<std::int64_t>{across}}, {"keepdims", std::int64_t{0}}});
    const std::string inside = e.cast(e.op("Greater", {most, e.number(0.0f)}), DType::kF32);
    const auto place = [&](std::int64_t last) {
      return e.op("ArgMax", {inside},
                  {{"axis", std::int64_t{1}}, {"keepdims", std::int64_t{0}}, {"select_last_index", last}});
    };
    const std::string behind = e.op("Add", {place(1), e.number(std::int64_t{1})});
    const std::string any =
        e.op("ReduceMax", {inside}, {{"axes", std::vector<std::int64_t>{1}}, {"keepdims", std::int64_t{0}}});
    const auto share = [&](const std::string& at) {
      const std::string of_side =
          e.op("Div", {e.cast(at, DType::kF32), e.number(static_cast<float>(pixels))});
      return e.add_axis(e.op("Mul", {of_side, any}), 1);  // an empty mask is a box of zeros
    };
    return Side{share(place(0)), share(behind)};
  };
  const Side x = side(1, extent(e, node.inputs[0], 2)), y = side(2, extent(e, node.inputs[0], 1));
  const std::string low = e.op("Concat", {x.low, y.low}, kFirstAxis),
                    high = e.op("Concat", {x.high, y.high}, kFirstAxis);
  const std::string centre = e.op("Div", {e.op("Add", {low, high}), e.number(2.0f)});
  const std::string box = e.op("Concat", {centre, e.op("Sub", {high, low})}, kFirstAxis);
  e.bind(node.outputs[0], box_logit(e, box, 1e-5f));
}

}  // namespace osprey
