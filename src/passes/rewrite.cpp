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

}  // namespace osprey
