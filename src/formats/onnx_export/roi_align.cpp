// Crops from a pyramid (ops/roi_align.h): ONNX's RoiAlign takes one map, so the boxes are parted by level,
// and the crops put back into the boxes' order.
#include "ops/roi_align.h"

#include <cmath>
#include <limits>

#include "formats/onnx_export/lowering.h"

namespace osprey {
namespace {

int level_of(const RoiAlign& op, float relative_size) {
  return static_cast<int>(std::floor(static_cast<float>(op.canonical_level) + std::log2(relative_size)));
}

// The least relative size (square root of the area / canonical size + level_epsilon) that belongs to `level`
// or above, in float32 as the framework rounds it: a comparison with it then needs no logarithm.
float least_size(const RoiAlign& op, int level) {
  float size = std::exp2(static_cast<float>(level - op.canonical_level));
  for (float below = size; level_of(op, below) >= level; below = std::nextafter(below, 0.0f)) size = below;
  return size;
}

std::string crop(Emitter& e, const RoiAlign& op, std::size_t level, const std::string& map,
                 const std::string& rois) {
  const std::string images = e.op("Expand", {e.ints({0}), e.length(rois)});
  return e.op(
      "RoiAlign", {map, rois, images},
      {{"coordinate_transformation_mode", std::string(op.aligned ? "half_pixel" : "output_half_pixel")},
       {"mode", std::string("avg")},
       {"output_height", std::int64_t{op.out}},
       {"output_width", std::int64_t{op.out}},
       {"sampling_ratio", std::int64_t{op.samples}},
       {"spatial_scale", op.scales[level]}});
}

// i64[R]: index of each box's level.
std::string levels_of(Emitter& e, const RoiAlign& op, const std::string& rois) {
  std::string size = e.op("Sub", {e.columns(rois, 2, 4), e.columns(rois, 0, 2)});
  if (op.inclusive) size = e.op("Add", {size, e.number(1.0f)});
  const std::string area = e.op("Mul", {e.columns(size, 0, 1), e.columns(size, 1, 2)});
  const std::string relative = e.op(
      "Add", {e.op("Div", {e.op("Sqrt", {area}), e.number(op.canonical_size)}), e.number(op.level_epsilon)});
  std::vector<float> bounds;
  for (std::size_t l = 1; l < op.scales.size(); ++l)
    bounds.push_back(least_size(op, op.first_level + static_cast<int>(l)));
  const std::string reached = e.cast(e.op("GreaterOrEqual", {relative, e.floats(bounds)}), DType::kI64);
  return e.op("ReduceSum", {reached, e.ints({1})}, {{"keepdims", std::int64_t{0}}});
}

// TensorFlow's crop_and_resize as GridSample of the one image, whose grid holds all boxes one above the
// other: -1 and 1 are the map's first and last pixel, and pixels outside count 0, each by itself.
std::string corners(Emitter& e, const RoiAlign& op, const Node& node) {
  const std::string rois = e.name(node.inputs[1]);
  const auto h = static_cast<float>(op.canvas_height), w = static_cast<float>(op.canvas_width);
  const std::string extents = h > 0 ? e.floats({w, h, w, h}) : e.name(node.inputs[2]);
  const std::string share = e.op("Div", {rois, extents});
  std::vector<float> steps;
  for (int i = 0; i < op.out; ++i)
    steps.push_back(op.out == 1 ? 0.5f : static_cast<float>(i) / static_cast<float>(op.out - 1));
  // [R,2,out]: where the samples of x and of y lie, 0 to 1.
  const std::string low = e.add_axis(e.columns(share, 0, 2), 2), high = e.add_axis(e.columns(share, 2, 4), 2);
  const std::string at = e.op("Add", {low, e.op("Mul", {e.op("Sub", {high, low}), e.floats(steps)})});
  const std::string grid = e.op("Sub", {e.op("Mul", {at, e.number(2.0f)}), e.number(1.0f)});
  const std::int64_t out = op.out;
  const auto spread = [&](std::int64_t axis, std::int64_t across) {  // [R,out,out,1]
    const std::string of_axis = e.op("Gather", {grid, e.number(axis)}, {{"axis", std::int64_t{1}}});
    const std::string shaped = e.op("Unsqueeze", {of_axis, e.ints({across, 3})});
    const std::string shape =
        e.op("Concat", {e.length(rois), e.ints({out, out, 1})}, {{"axis", std::int64_t{0}}});
    return e.op("Expand", {shaped, shape});
  };
  const std::string x = spread(0, 1), y = spread(1, 2);
  const std::string places = e.op("Concat", {x, y}, {{"axis", std::int64_t{3}}});
  const std::string sampled = e.op("GridSample", {e.name(node.inputs[0]), e.reshape(places, {1, -1, out, 2})},
                                   {{"align_corners", std::int64_t{1}},
                                    {"mode", std::string("bilinear")},
                                    {"padding_mode", std::string("zeros")}});  // [1,C,R*out,out]
  const std::int64_t channels = e.graph().value(node.inputs[0]).type.dims[1].constant();
  std::string crops = e.op("Transpose", {e.reshape(sampled, {channels, -1, out, out})},
                           {{"perm", std::vector<std::int64_t>{1, 0, 2, 3}}});
  if (!op.neighbours) {  // a sample outside counts as 0
    const auto inside = [&](const std::string& v) {
      return e.op("LessOrEqual", {e.op("Abs", {v}), e.number(1.0f)});
    };
    const std::string whole = e.op("And", {inside(x), inside(y)});  // [R,out,out,1]
    crops = e.op("Mul",
                 {crops, e.cast(e.op("Transpose", {whole}, {{"perm", std::vector<std::int64_t>{0, 3, 1, 2}}}),
                                DType::kF32)});
  }
  if (op.pool == 1) return crops;
  const std::vector<std::int64_t> kernel{op.pool, op.pool};
  return e.op("MaxPool", {crops}, {{"kernel_shape", kernel}, {"strides", kernel}});
}

}  // namespace

void lower_roi_align(Emitter& e, const Node& node) {
  const RoiAlign& op = *node.op.as<RoiAlign>();
  if (op.sampling == RoiSampling::kCorners) {
    e.bind(node.outputs[0], corners(e, op, node));
    return;
  }
  const std::string rois = e.name(node.inputs.back());
  if (op.scales.size() == 1) {
    e.bind(node.outputs[0], crop(e, op, 0, e.name(node.inputs[0]), rois));
    return;
  }
  const std::string levels = levels_of(e, op, rois);
  std::vector<std::string> rows, crops;
  for (std::size_t l = 0; l < op.scales.size(); ++l) {
    rows.push_back(e.where_true(e.op("Equal", {levels, e.number(static_cast<std::int64_t>(l))})));
    crops.push_back(crop(e, op, l, e.name(node.inputs[l]), e.take(rois, rows.back())));
  }
  const Attributes first_axis{{"axis", std::int64_t{0}}};
  const std::string order = e.op("Concat", rows, first_axis);
  const std::string back = e.top(order, e.length(order), /*largest=*/false)[1];
  e.bind(node.outputs[0], e.take(e.op("Concat", crops, first_axis), back));
}

}  // namespace osprey
