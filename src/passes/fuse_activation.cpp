// An activation after a convolution, a fully connected layer or a weighted sum that nobody else reads is
// applied by it, a ReLU by a group norm, too.
#include "ops/activate.h"
#include "ops/conv.h"
#include "ops/conv_transpose.h"
#include "ops/group_norm.h"
#include "ops/linear.h"
#include "ops/weighted_sum.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

namespace osprey {
namespace {

template <class T>
bool fuse(Node& node, Activation kind) {
  const T* op = node.op.as<T>();
  if (!op || op->activation != Activation::kNone) return false;
  node.op = changed<T>(node.op, [&](T& fused) { fused.activation = kind; });
  return true;
}

}  // namespace

void fuse_activation(Graph& graph, const PassOptions&) {
  const Uses uses(graph);
  std::vector<bool> gone(graph.nodes().size(), false);
  auto& nodes = graph.mutable_nodes();
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const Activate* activate = nodes[i].op.as<Activate>();
    const int at = activate ? uses.sole_producer(nodes[i].inputs[0]) : -1;
    if (at < 0) continue;
    Node& producer = nodes[static_cast<std::size_t>(at)];
    const Activation kind = activate->kind;
    if (!fuse<Conv>(producer, kind) && !fuse<ConvTranspose>(producer, kind) &&
        !fuse<Linear>(producer, kind) && !fuse<WeightedSum>(producer, kind) &&
        !(kind == Activation::kRelu && fuse<GroupNorm>(producer, kind)))
      continue;
    producer.outputs = nodes[i].outputs;
    gone[i] = true;
  }
  erase_nodes(graph, gone);
}

}  // namespace osprey
