// A DETR's choice of queries and detections, its boxes and its masks; CenterNet's pixels as queries. Each
// image of the batch has the same number of each, so that rows are [N*Q].
#include <limits>

#include "formats/onnx_export/lowering.h"
#include "ops/center_queries.h"
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

// Whether pixels of a map lie within the clip extents: bool[1,1,H,W].
std::string inside(Emitter& e, const std::string& geometry, std::int64_t height, std::int64_t width) {
  const auto axis = [&](std::int64_t pixels, Shape shape, std::int64_t extent) {
    std::vector<float> places(static_cast<std::size_t>(pixels));
    for (std::size_t i = 0; i < places.size(); ++i) places[i] = static_cast<float>(i);
    return e.op("Less", {e.floats(places, std::move(shape)), e.take(geometry, e.ints({extent}))});
  };
  return e.op("And", {axis(height, {1, 1, height, 1}, 1), axis(width, {1, 1, 1, width}, 0)});
}

// [N,C,H,W] -> [N,H*W,C].
std::string pixels_of(Emitter& e, const std::string& maps, std::int64_t channels, std::int64_t pixels) {
  const std::string last = e.op("Transpose", {maps}, {{"perm", std::vector<std::int64_t>{0, 2, 3, 1}}});
  return e.reshape(last, {-1, pixels, channels});
}

}  // namespace

void lower_center_queries(Emitter& e, const Node& node) {
  const CenterQueries& op = *node.op.as<CenterQueries>();
  const std::int64_t classes = extent(e, node.inputs[0], 1), height = extent(e, node.inputs[0], 2),
                     width = extent(e, node.inputs[0], 3);
  const std::string &logits = e.name(node.inputs[0]), &geometry = e.name(node.inputs[3]);
  const std::string scores =
      e.op("Mul", {e.op("Sigmoid", {logits}), e.cast(inside(e, geometry, height, width), DType::kF32)});
  const std::vector<std::int64_t> window{op.peak, op.peak};
  const std::string most =
      e.op("MaxPool", {scores}, {{"kernel_shape", window}, {"auto_pad", std::string("SAME_UPPER")}});
  const std::string apart = e.op("Abs", {e.op("Sub", {scores, most})});
  const std::string peak = e.op("And", {e.op("Greater", {scores, e.number(0.0f)}),
                                        e.op("Less", {apart, e.number(CenterQueries::kPeakEpsilon)})});
  const std::string kept = e.op("Where", {peak, logits, e.number(-std::numeric_limits<float>::infinity())});
  e.bind(node.outputs[0], e.reshape(pixels_of(e, kept, classes, height * width), {-1, classes}));
  // Vertical before horizontal, as sizes and offsets come.
  std::vector<float> places;
  for (std::int64_t y = 0; y < height; ++y)
    for (std::int64_t x = 0; x < width; ++x)
      places.insert(places.end(), {static_cast<float>(y), static_cast<float>(x)});
  const std::string centre = e.op("Add", {e.floats(places, {1, height * width, 2}),
                                          pixels_of(e, e.name(node.inputs[2]), 2, height * width)});
  const std::string half =
      e.op("Div", {e.op("Max", {pixels_of(e, e.name(node.inputs[1]), 2, height * width), e.number(0.0f)}),
                   e.number(2.0f)});
  const std::string extents = e.take(geometry, e.ints({1, 0}));
  const std::string sides = e.floats({static_cast<float>(height), static_cast<float>(width)});
  const auto fraction = [&](const char* way) {
    const std::string at = e.op(way, {centre, half});
    const std::string on_map = e.op("Min", {e.op("Max", {at, e.number(0.0f)}), sides});
    const std::string share =
        e.op("Div", {e.op("Mul", {on_map, e.number(static_cast<float>(op.stride))}), extents});
    return e.op("Clip", {share, e.number(0.0f), e.number(1.0f)});
  };
  const std::string low = fraction("Sub"), high = fraction("Add");
  const std::string middle = e.op("Div", {e.op("Add", {low, high}), e.number(2.0f)});
  const std::string box = e.op("Concat", {middle, e.op("Sub", {high, low})}, {{"axis", std::int64_t{2}}});
  const std::string by_x = e.op("Gather", {box, e.ints({1, 0, 3, 2})}, {{"axis", std::int64_t{2}}});
  e.bind(node.outputs[1], e.reshape(by_x, {-1, 4}));
}

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
