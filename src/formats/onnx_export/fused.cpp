// Layers as an engine has them: what the passes have fused into them is written out again, and integers are
// quantised and dequantised around layers of floats (Q/DQ), which ONNX Runtime and others fuse as they can.
#include "formats/onnx_export/lowering.h"
#include "ops/conv.h"
#include "ops/conv_transpose.h"
#include "ops/dequantize.h"
#include "ops/linear.h"
#include "ops/quantize.h"
#include "ops/quantized_conv.h"
#include "ops/quantized_conv_transpose.h"
#include "ops/quantized_linear.h"
#include "ops/squeeze_excite.h"

namespace osprey {
namespace {

std::string input(const Emitter& e, const Node& node, std::size_t i) {
  return i < node.inputs.size() && node.inputs[i] != kNoValue ? e.name(node.inputs[i]) : "";
}

std::vector<std::int64_t> wide(const std::vector<int>& list) { return {list.begin(), list.end()}; }

// Of Conv and QuantizedConv.
template <class T>
Attributes window_attributes(const T& op) {
  Attributes out{
      {"strides", wide(op.stride)}, {"dilations", wide(op.dilation)}, {"group", std::int64_t{op.groups}}};
  if (op.padding == Padding::kSame) {
    out.push_back({"auto_pad", std::string("SAME_UPPER")});
  } else {
    out.push_back({"pads", wide(op.pads)});
  }
  return out;
}

std::string emit_quantized(Emitter& e, const std::string& x, float scale, DType type) {
  return e.op("QuantizeLinear", {x, e.number(scale), e.zero_point(type)});
}

std::string emit_dequantized(Emitter& e, const std::string& x, float scale, DType type) {
  return e.op("DequantizeLinear", {x, e.number(scale), e.zero_point(type)});
}

// Adds a residual, repeated `upsampling` times each way.
std::string emit_residual(Emitter& e, const std::string& x, const std::string& residual, int upsampling) {
  return e.op("Add", {x, emit_repeat(e, residual, upsampling)});
}

DType type_of(const Emitter& e, ValueId id) { return e.graph().value(id).type.dtype; }

// x and weight of a layer of integers, with `x_scale`, as floats. Zero points of all channels are 0, which is
// what their absence means.
std::array<std::string, 2> emit_dequantized_inputs(Emitter& e, const Node& node, float x_scale) {
  return {emit_dequantized(e, input(e, node, 0), x_scale, type_of(e, node.inputs[0])),
          e.op("DequantizeLinear", {input(e, node, 1), input(e, node, 2)}, {{"axis", std::int64_t{0}}})};
}

bool holds_integers(DType type) { return type == DType::kI8 || type == DType::kU8; }

// What a layer of integers does with its sums in floats, but for a residual.
void bind_stored(Emitter& e, const Node& node, const std::string& sums, const auto& op) {
  std::string y = emit_activation(e, sums, op.activation);
  if (is_integer(op.to)) y = emit_quantized(e, y, op.y_scale, dtype_of(op.to));
  e.bind(node.outputs[0], y);
}

}  // namespace

void lower_conv(Emitter& e, const Node& node) {
  const Conv& op = *node.op.as<Conv>();
  std::string y =
      e.op("Conv", {input(e, node, 0), input(e, node, 1), input(e, node, 2)}, window_attributes(op));
  const auto of_maps = [&](std::size_t i) { return e.op("Unsqueeze", {input(e, node, i), e.ints({1, 2})}); };
  if (!input(e, node, 4).empty()) {
    const std::string factor = of_maps(4), offset = of_maps(5);
    y = e.op("Add", {e.op("Mul", {y, factor}), offset});
  }
  if (const std::string residual = input(e, node, 3); !residual.empty())
    y = emit_residual(e, y, residual, op.residual_scale);
  e.bind(node.outputs[0], emit_activation(e, y, op.activation));
}

void lower_conv_transpose(Emitter& e, const Node& node) {
  const ConvTranspose& op = *node.op.as<ConvTranspose>();
  const std::string y = e.op("ConvTranspose", {input(e, node, 0), input(e, node, 1), input(e, node, 2)},
                             {{"strides", wide(op.stride)}, {"pads", wide(op.pads)}});
  e.bind(node.outputs[0], emit_activation(e, y, op.activation));
}

void lower_linear(Emitter& e, const Node& node) {
  const std::string y =
      e.op("Gemm", {input(e, node, 0), input(e, node, 1), input(e, node, 2)}, {{"transB", std::int64_t{1}}});
  e.bind(node.outputs[0], emit_activation(e, y, node.op.as<Linear>()->activation));
}

void lower_squeeze_excite(Emitter& e, const Node& node) {
  const std::string x = input(e, node, 0);
  const auto layer = [&](const std::string& of, std::size_t weight, Activation activation) {
    const std::string y =
        e.op("Gemm", {of, input(e, node, weight), input(e, node, weight + 1)}, {{"transB", std::int64_t{1}}});
    return emit_activation(e, y, activation);
  };
  const std::string means =
      e.op("ReduceMean", {x}, {{"axes", std::vector<std::int64_t>{2, 3}}, {"keepdims", std::int64_t{0}}});
  const std::string hidden = layer(means, 1, node.op.as<SqueezeExcite>()->activation);
  const std::string gates = layer(hidden, 3, Activation::kSigmoid);
  e.bind(node.outputs[0], e.op("Mul", {x, e.op("Unsqueeze", {gates, e.ints({2, 3})})}));
}

void lower_quantize(Emitter& e, const Node& node) {
  const Quantize& op = *node.op.as<Quantize>();
  e.bind(node.outputs[0], emit_quantized(e, e.name(node.inputs[0]), op.scale, dtype_of(op.to)));
}

void lower_dequantize(Emitter& e, const Node& node) {
  const ValueId x = node.inputs[0];
  e.bind(node.outputs[0], emit_dequantized(e, e.name(x), node.op.as<Dequantize>()->scale, type_of(e, x)));
}

void lower_quantized_conv(Emitter& e, const Node& node) {
  const QuantizedConv& op = *node.op.as<QuantizedConv>();
  const auto [x, weight] = emit_dequantized_inputs(e, node, op.x_scale);
  std::string y = e.op("Conv", {x, weight, input(e, node, 3)}, window_attributes(op));
  if (std::string residual = input(e, node, 4); !residual.empty()) {
    const DType type = type_of(e, node.inputs[4]);
    if (holds_integers(type)) residual = emit_dequantized(e, residual, op.residual_scale, type);
    y = emit_residual(e, y, residual, op.residual_upsampling);
  }
  bind_stored(e, node, y, op);
}

void lower_quantized_conv_transpose(Emitter& e, const Node& node) {
  const QuantizedConvTranspose& op = *node.op.as<QuantizedConvTranspose>();
  const auto [x, result_first] = emit_dequantized_inputs(e, node, op.x_scale);
  const auto& weight = e.graph().value(node.inputs[1]).type.dims;
  const std::vector<std::int64_t> strides{weight[2].constant(), weight[3].constant()};
  const std::string floats =
      e.op("Transpose", {result_first}, {{"perm", std::vector<std::int64_t>{1, 0, 2, 3}}});
  bind_stored(e, node, e.op("ConvTranspose", {x, floats, input(e, node, 3)}, {{"strides", strides}}), op);
}

void lower_quantized_linear(Emitter& e, const Node& node) {
  const QuantizedLinear& op = *node.op.as<QuantizedLinear>();
  const auto [x, weight] = emit_dequantized_inputs(e, node, op.x_scale);
  bind_stored(e, node, e.op("Gemm", {x, weight, input(e, node, 3)}, {{"transB", std::int64_t{1}}}), op);
}

}  // namespace osprey
