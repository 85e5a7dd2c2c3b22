// conv followed by scale: weight' = weight * factor, bias' = bias * factor. Weights that several convolutions
// share are scaled once for each factor.
#include <algorithm>
#include <map>
#include <utility>

#include "ops/conv.h"
#include "ops/scale.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

namespace osprey {
namespace {

// A convolution that nothing has been fused into, so that the scale is the first thing after it.
bool bare(const Node& node) {
  const Conv* conv = node.op.as<Conv>();
  return conv && conv->activation == Activation::kNone && node.inputs.size() <= 3;
}

Tensor scaled(const Tensor& values, float factor) {
  const Tensor in = values.to_f32();
  Tensor out = Tensor::zeros(DType::kF32, in.shape());
  const auto from = in.values<float>();
  const auto to = out.mutable_values<float>();
  for (std::size_t i = 0; i < from.size(); ++i) to[i] = from[i] * factor;
  return out;
}

}  // namespace

void fold_scale(Graph& graph, const PassOptions&) {
  const Uses uses(graph);
  std::vector<bool> gone(graph.nodes().size(), false);
  std::map<std::pair<ValueId, float>, ValueId> done;
  for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
    const Scale* op = graph.nodes()[i].op.as<Scale>();
    const int at = op ? uses.sole_producer(graph.nodes()[i].inputs[0]) : -1;
    if (at < 0 || !bare(graph.nodes()[static_cast<std::size_t>(at)])) continue;
    std::vector<ValueId> inputs = graph.nodes()[static_cast<std::size_t>(at)].inputs;
    const auto is_weight = [&](ValueId id) { return id == kNoValue || graph.weight(id); };
    if (!std::all_of(inputs.begin() + 1, inputs.end(), is_weight)) continue;
    for (std::size_t k = 1; k < inputs.size(); ++k) {
      if (inputs[k] == kNoValue) continue;
      const auto [known, fresh] = done.try_emplace({inputs[k], op->factor});
      if (fresh) {
        const Value value = graph.value(inputs[k]);
        known->second = graph.add_weight(
            value.name + "/scaled", value.type,
            [load = graph.weight(inputs[k])->load, factor = op->factor] { return scaled(load(), factor); });
      }
      inputs[k] = known->second;
    }
    Node& conv = graph.mutable_nodes()[static_cast<std::size_t>(at)];
    conv.inputs = std::move(inputs);
    conv.outputs = graph.nodes()[i].outputs;
    gone[i] = true;
  }
  erase_nodes(graph, gone);
}

}  // namespace osprey
