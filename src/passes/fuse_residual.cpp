// add(conv(x), y) becomes one convolution with y as its residual, at the place of the add. Where both sides
// are convolutions that nobody else uses, the one that runs later takes the other in.
#include <algorithm>

#include "ops/add.h"
#include "ops/conv.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

namespace osprey {
namespace {

bool takes_residual(const Node& node) {
  const Conv* conv = node.op.as<Conv>();
  return conv && conv->activation == Activation::kNone &&
         (node.inputs.size() <= 3 || node.inputs[3] == kNoValue) && !conv->f32_out;
}

}  // namespace

void fuse_residual(Graph& graph, const PassOptions&) {
  for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
    const Node sum = graph.nodes()[i];
    if (!sum.op.as<Add>()) continue;
    const Uses uses(graph);
    int best = -1, side = 0;
    for (int k = 0; k < 2; ++k) {
      const int at = uses.sole_producer(sum.inputs[static_cast<std::size_t>(k)]);
      if (at > best && takes_residual(graph.nodes()[static_cast<std::size_t>(at)])) best = at, side = k;
    }
    if (best < 0) continue;
    auto& nodes = graph.mutable_nodes();
    Node fused = nodes[static_cast<std::size_t>(best)];
    fused.inputs.resize(std::max<std::size_t>(fused.inputs.size(), 4), kNoValue);
    fused.inputs[3] = sum.inputs[static_cast<std::size_t>(1 - side)];
    fused.outputs = sum.outputs;
    nodes[i] = std::move(fused);
    nodes.erase(nodes.begin() + best);
    --i;
  }
}

}  // namespace osprey
