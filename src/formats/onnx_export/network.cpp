// Layers that ONNX has no single op for.
#include "formats/onnx_export/lowering.h"
#include "ops/activate.h"
#include "ops/group_norm.h"
#include "ops/scale.h"
#include "ops/upsample.h"
#include "ops/weighted_sum.h"

namespace osprey {
namespace {

Attributes resize_rule(Interpolation mode) {
  const auto rule = [](const char* name, const char* coordinates) {
    return Attributes{{"mode", std::string(name)},
                      {"coordinate_transformation_mode", std::string(coordinates)}};
  };
  if (mode == Interpolation::kBilinear) return rule("linear", "half_pixel");
  if (mode == Interpolation::kBilinearCorners) return rule("linear", "align_corners");
  Attributes out = rule("nearest", "asymmetric");
  out.push_back({"nearest_mode", std::string("floor")});
  return out;
}

// What a weighted sum multiplies its maps by, as a vector.
std::string emit_shares(Emitter& e, const Node& node, std::size_t maps, float epsilon) {
  std::vector<std::string> weights;
  for (std::size_t i = 0; i < maps; ++i) weights.push_back(e.add_axis(e.name(node.inputs[maps + i]), 0));
  const std::string positive = e.op("Relu", {e.op("Concat", weights, {{"axis", std::int64_t{0}}})});
  const std::string sum = e.op("Add", {e.op("ReduceSum", {positive}), e.number(epsilon)});
  return e.op("Div", {positive, sum});
}

}  // namespace

std::string emit_activation(Emitter& e, const std::string& x, Activation kind) {
  switch (kind) {
    case Activation::kNone:
      return x;
    case Activation::kRelu:
      return e.op("Relu", {x});
    case Activation::kRelu6:
      return e.op("Clip", {x, e.number(0.f), e.number(6.f)});
    case Activation::kSigmoid:
      return e.op("Sigmoid", {x});
    case Activation::kSwish:
      return e.op("Mul", {x, e.op("Sigmoid", {x})});
  }
  return x;
}

std::string emit_repeat(Emitter& e, const std::string& x, int scale) {
  if (scale == 1) return x;
  const auto s = static_cast<float>(scale);
  return e.op("Resize", {x, "", e.floats({1, 1, s, s})}, resize_rule(Interpolation::kNearest));
}

void lower_activate(Emitter& e, const Node& node) {
  e.bind(node.outputs[0], emit_activation(e, e.name(node.inputs[0]), node.op.as<Activate>()->kind));
}

// ONNX's GroupNormalization came late (opset 21) and not to every runtime; InstanceNormalization of a group's
// numbers in a row is the same.
void lower_group_norm(Emitter& e, const Node& node) {
  const GroupNorm& op = *node.op.as<GroupNorm>();
  const auto& dims = e.graph().value(node.inputs[0]).type.dims;
  const std::string& x = e.name(node.inputs[0]);
  std::int64_t numbers = dims[1].constant() / op.groups;  // of a group; -1: as many as there are
  for (std::size_t i = 2; i < dims.size(); ++i)
    numbers = numbers < 0 || !dims[i].is_constant() ? -1 : numbers * dims[i].constant();
  const std::string rows = e.reshape(x, {numbers < 0 ? 0 : -1, op.groups, numbers});
  const auto groups = static_cast<std::size_t>(op.groups);
  const std::string normed =
      e.op("InstanceNormalization",
           {rows, e.floats(std::vector<float>(groups, 1.0f)), e.floats(std::vector<float>(groups, 0.0f))},
           {{"epsilon", op.epsilon}});
  const auto per_channel = [&](std::size_t input) {
    const std::string& name = e.name(node.inputs[input]);
    return dims.size() == 2 ? name : e.reshape(name, {-1, 1, 1});
  };
  const std::string back = e.op("Reshape", {normed, e.op("Shape", {x})});
  const std::string scaled = e.op("Mul", {back, per_channel(1)});
  e.bind(node.outputs[0], emit_activation(e, e.op("Add", {scaled, per_channel(2)}), op.activation));
}

void lower_scale(Emitter& e, const Node& node) {
  e.bind(node.outputs[0], e.op("Mul", {e.name(node.inputs[0]), e.number(node.op.as<Scale>()->factor)}));
}

void lower_scale_channels(Emitter& e, const Node& node) {
  const std::string s = e.op("Unsqueeze", {e.name(node.inputs[1]), e.ints({2, 3})});
  e.bind(node.outputs[0], e.op("Mul", {e.name(node.inputs[0]), s}));
}

void lower_upsample(Emitter& e, const Node& node) {
  const Upsample& op = *node.op.as<Upsample>();
  const std::string& x = e.name(node.inputs[0]);
  const auto s = static_cast<float>(op.scale);
  if (!op.sized()) {
    e.bind(node.outputs[0], e.op("Resize", {x, "", e.floats({1, 1, s, s})}, resize_rule(op.mode)));
    return;
  }
  const std::string kept = e.take(e.op("Shape", {x}), e.ints({0, 1}));
  const std::string sizes =
      e.op("Concat", {kept, e.ints({op.height, op.width})}, {{"axis", std::int64_t{0}}});
  e.bind(node.outputs[0], e.op("Resize", {x, "", "", sizes}, resize_rule(op.mode)));
}

void lower_weighted_sum(Emitter& e, const Node& node) {
  const WeightedSum& op = *node.op.as<WeightedSum>();
  const std::size_t maps = op.maps(node.inputs.size());
  const std::string shares = op.normalize ? emit_shares(e, node, maps, op.epsilon) : "";
  std::string sum;
  for (std::size_t i = 0; i < maps; ++i) {
    std::string x = emit_repeat(e, e.name(node.inputs[i]), op.scale(i));
    if (op.normalize) x = e.op("Mul", {x, e.take(shares, e.number(static_cast<std::int64_t>(i)))});
    sum = i == 0 ? x : e.op("Add", {sum, x});
  }
  e.bind(node.outputs[0], emit_activation(e, sum, op.activation));
}

}  // namespace osprey
