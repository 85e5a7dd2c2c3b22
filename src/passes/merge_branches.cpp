// add(conv(x, a), conv(x, b)), where b's kernel fits into the middle of a's, is one convolution with the sum
// of the kernels and of the biases: RepVGG's re-parameterisation (Ding et al., 2021) of a 3x3 and a 1x1
// branch. Sums are taken in double and rounded once.
#include "ops/add.h"
#include "ops/conv.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

namespace osprey {
namespace {

using Load = std::function<Tensor()>;

bool has_bias(const Node& conv) { return conv.inputs.size() == 3 && conv.inputs[2] != kNoValue; }

// A convolution that nothing has been fused into, over weights.
bool bare(const Graph& graph, const Node& node) {
  const Conv* conv = node.op.as<Conv>();
  if (!conv || conv->activation != Activation::kNone || conv->padding != Padding::kExplicit) return false;
  return node.inputs.size() <= 3 && graph.weight(node.inputs[1]) &&
         (!has_bias(node) || graph.weight(node.inputs[2]));
}

Shape kernel_of(const Graph& graph, const Node& conv) {
  return constant_shape(graph.value(conv.inputs[1]).type);
}

// Whether every pixel under `inner` lies as far from the middle of `outer`'s window as of its own.
bool fits(const Graph& graph, const Node& inner, const Node& outer) {
  const Conv &a = *outer.op.as<Conv>(), &b = *inner.op.as<Conv>();
  const Shape large = kernel_of(graph, outer), small = kernel_of(graph, inner);
  if (outer.inputs[0] != inner.inputs[0] || a.stride != b.stride || a.groups != b.groups ||
      a.f32_out != b.f32_out || a.dilation != std::vector{1, 1} || b.dilation != std::vector{1, 1})
    return false;
  for (std::size_t axis = 0; axis < 2; ++axis) {
    const std::int64_t room = large[axis + 2] - small[axis + 2];
    if (room < 0 || room % 2 != 0 || a.pads[axis] - b.pads[axis] != room / 2 ||
        a.pads[axis + 2] - b.pads[axis + 2] != room / 2)
      return false;
  }
  return true;
}

float rounded_sum(float a, float b) { return static_cast<float>(static_cast<double>(a) + b); }

// `inner` added to the middle of each of `outer`'s kernels.
Tensor summed_kernels(const Load& outer, const Load& inner) {
  const Tensor small = inner().to_f32();
  Tensor sum = outer().to_f32().copied();
  const std::int64_t height = sum.dim(2), width = sum.dim(3), rows = small.dim(2), columns = small.dim(3);
  const auto to = sum.mutable_values<float>();
  const auto from = small.values<float>();
  for (std::int64_t i = 0; i < small.size(); ++i) {
    const std::int64_t x = i % columns + (width - columns) / 2, y = i / columns % rows + (height - rows) / 2;
    float& v = to[static_cast<std::size_t>((i / (rows * columns) * height + y) * width + x)];
    v = rounded_sum(v, from[static_cast<std::size_t>(i)]);
  }
  return sum;
}

Tensor summed_biases(const Load& a, const Load& b) {
  if (!a || !b) return a ? a() : b();
  Tensor sum = a().to_f32().copied();
  const Tensor other = b().to_f32();
  const auto to = sum.mutable_values<float>();
  for (std::size_t i = 0; i < to.size(); ++i) to[i] = rounded_sum(to[i], other.values<float>()[i]);
  return sum;
}

Load bias_of(const Graph& graph, const Node& conv) {
  return has_bias(conv) ? graph.weight(conv.inputs[2])->load : Load{};
}

// The inputs of the one convolution.
std::vector<ValueId> merged_inputs(Graph& graph, const Node& outer, const Node& inner) {
  const Value weight = graph.value(outer.inputs[1]);
  const Load large = graph.weight(outer.inputs[1])->load, small = graph.weight(inner.inputs[1])->load;
  std::vector<ValueId> inputs{outer.inputs[0], graph.add_weight(weight.name + "/merged", weight.type, [=] {
                                return summed_kernels(large, small);
                              })};
  if (has_bias(outer) || has_bias(inner))
    inputs.push_back(graph.add_weight(
        outer.name + ".bias/merged", {DType::kF32, {weight.type.dims[0]}},
        [a = bias_of(graph, outer), b = bias_of(graph, inner)] { return summed_biases(a, b); }));
  return inputs;
}

}  // namespace

void merge_branches(Graph& graph, const PassOptions&) {
  const Uses uses(graph);
  std::vector<bool> gone(graph.nodes().size(), false);
  for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
    const Node sum = graph.nodes()[i];
    if (!sum.op.as<Add>()) continue;
    int outer = uses.sole_producer(sum.inputs[0]), inner = uses.sole_producer(sum.inputs[1]);
    if (outer < 0 || inner < 0) continue;
    const auto node = [&](int at) { return graph.nodes()[static_cast<std::size_t>(at)]; };
    if (!bare(graph, node(outer)) || !bare(graph, node(inner))) continue;
    if (!fits(graph, node(inner), node(outer))) std::swap(outer, inner);
    if (!fits(graph, node(inner), node(outer))) continue;
    Node merged = node(outer);
    merged.inputs = merged_inputs(graph, node(outer), node(inner));
    merged.outputs = sum.outputs;
    graph.mutable_nodes()[i] = std::move(merged);
    gone[static_cast<std::size_t>(outer)] = gone[static_cast<std::size_t>(inner)] = true;
  }
  erase_nodes(graph, gone);
}

}  // namespace osprey
