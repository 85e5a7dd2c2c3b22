#include "passes/rewrite.h"

namespace osprey {

Uses::Uses(const Graph& graph) : producers_(graph.values().size(), -1), counts_(graph.values().size(), 0) {
  for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
    for (const ValueId out : graph.nodes()[i].outputs)
      producers_[static_cast<std::size_t>(out)] = static_cast<int>(i);
    for (const ValueId in : graph.nodes()[i].inputs)
      if (in != kNoValue) ++counts_[static_cast<std::size_t>(in)];
  }
  for (const ValueId out : graph.outputs()) ++counts_[static_cast<std::size_t>(out)];
}

void erase_nodes(Graph& graph, const std::vector<bool>& gone) {
  std::vector<Node> left;
  for (std::size_t i = 0; i < gone.size(); ++i)
    if (!gone[i]) left.push_back(std::move(graph.mutable_nodes()[i]));
  graph.mutable_nodes() = std::move(left);
}

}  // namespace osprey
