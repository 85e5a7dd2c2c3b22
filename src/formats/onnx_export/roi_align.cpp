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

// The least relative size (square root of the area / canonical size + 1e-8) that belongs to `level` or above,
// in float32 as the framework rounds it: a comparison with it then needs no logarithm.
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
  const std::string size = e.op("Sub", {e.columns(rois, 2, 4), e.columns(rois, 0, 2)});
  const std::string area = e.op("Mul", {e.columns(size, 0, 1), e.columns(size, 1, 2)});
  const std::string relative =
      e.op("Add", {e.op("Div", {e.op("Sqrt", {area}), e.number(op.canonical_size)}), e.number(1e-8f)});
  std::vector<float> bounds;
  for (std::size_t l = 1; l < op.scales.size(); ++l)
    bounds.push_back(least_size(op, op.first_level + static_cast<int>(l)));
  const std::string reached = e.cast(e.op("GreaterOrEqual", {relative, e.floats(bounds)}), DType::kI64);
  return e.op("ReduceSum", {reached, e.ints({1})}, {{"keepdims", std::int64_t{0}}});
}

}  // namespace

void lower_roi_align(Emitter& e, const Node& node) {
  const RoiAlign& op = *node.op.as<RoiAlign>();
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
