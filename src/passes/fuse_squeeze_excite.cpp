// scale_channels(x, linear(linear(global_average_pool(x)))) with a sigmoid at its end becomes one op: the
// numbers between are so few that what they cost is the number of steps.
#include "ops/global_average_pool.h"
#include "ops/linear.h"
#include "ops/scale_channels.h"
#include "ops/squeeze_excite.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

namespace osprey {
namespace {

// The layer that makes a value for one reader, if it has a bias and stays in the type of what it reads.
int layer_of(const Graph& graph, const Uses& uses, ValueId value) {
  const int at = uses.sole_producer(value);
  if (at < 0) return -1;
  const Node& node = graph.nodes()[static_cast<std::size_t>(at)];
  const bool fits = node.op.as<Linear>() && node.inputs.size() == 3 && node.inputs[2] != kNoValue &&
                    graph.value(value).type.dtype == graph.value(node.inputs[0]).type.dtype;
  return fits ? at : -1;
}

}  // namespace

void fuse_squeeze_excite(Graph& graph, const PassOptions&) {
  const Uses uses(graph);
  std::vector<bool> gone(graph.nodes().size(), false);
  auto& nodes = graph.mutable_nodes();
  const auto node_at = [&](int at) -> Node& { return nodes[static_cast<std::size_t>(at)]; };
  for (Node& scale : nodes) {
    if (!scale.op.as<ScaleChannels>()) continue;
    const int expand = layer_of(graph, uses, scale.inputs[1]);
    if (expand < 0 || node_at(expand).op.as<Linear>()->activation != Activation::kSigmoid) continue;
    const int squeeze = layer_of(graph, uses, node_at(expand).inputs[0]);
    if (squeeze < 0) continue;
    const int pool = uses.sole_producer(node_at(squeeze).inputs[0]);
    if (pool < 0 || !node_at(pool).op.as<GlobalAveragePool>() || node_at(pool).inputs[0] != scale.inputs[0])
      continue;
    const Node &first = node_at(squeeze), &second = node_at(expand);
    scale.op = SqueezeExcite{.activation = first.op.as<Linear>()->activation};
    scale.inputs = {scale.inputs[0], first.inputs[1], first.inputs[2], second.inputs[1], second.inputs[2]};
    for (const int at : {expand, squeeze, pool}) gone[static_cast<std::size_t>(at)] = true;
  }
  erase_nodes(graph, gone);
}

}  // namespace osprey
