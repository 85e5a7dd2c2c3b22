// Nodes whose inputs are all weights become weights, computed once, now.
#include <algorithm>

#include "passes/pass.h"

namespace osprey {
namespace {

bool all_weights(const Graph& graph, const Node& node) {
  return !node.inputs.empty() && std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId id) {
    return id != kNoValue && graph.weight(id) != nullptr;
  });
}

}  // namespace

void fold_constants(Graph& graph, const PassOptions& options) {
  if (!options.evaluate) return;
  for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
    const Node node = graph.nodes()[i];
    if (!all_weights(graph, node)) continue;
    std::vector<Tensor> inputs;
    for (const ValueId id : node.inputs) inputs.push_back(graph.weight(id)->load());
    const std::vector<Tensor> results = options.evaluate(node, inputs);
    for (std::size_t k = 0; k < results.size(); ++k)
      graph.replace_uses(node.outputs[k], graph.add_weight(graph.value(node.outputs[k]).name, results[k]));
  }
  graph.compact(options.kept);
}

}  // namespace osprey
