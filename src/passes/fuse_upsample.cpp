// conv(x, residual = upsample(y)) reads y at its own size: the top-down path of a feature pyramid without
// writing the enlarged map.
#include "ops/conv.h"
#include "ops/upsample.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

namespace osprey {

void fuse_upsample(Graph& graph, const PassOptions& options) {
  const Uses uses(graph);
  for (Node& node : graph.mutable_nodes()) {
    const Conv* conv = node.op.as<Conv>();
    if (!conv || node.inputs.size() < 4 || conv->residual_scale != 1) continue;
    const int at = uses.sole_producer(node.inputs[3]);
    if (at < 0) continue;
    const Node& producer = graph.nodes()[static_cast<std::size_t>(at)];
    const Upsample* up = producer.op.as<Upsample>();
    if (!up || up->mode != Interpolation::kNearest || up->scale != 2 || up->sized()) continue;
    node.op = changed<Conv>(node.op, [](Conv& c) { c.residual_scale = 2; });
    node.inputs[3] = producer.inputs[0];
  }
  graph.compact(options.kept);
}

}  // namespace osprey
