#include "engine/queries.h"

#include <algorithm>
#include <set>

#include "core/error.h"
#include "engine/change_op.h"
#include "ops/attention.h"
#include "ops/deformable_attention.h"
#include "ops/detect_queries.h"
#include "ops/select_queries.h"

namespace osprey {
namespace {

// The queries that the graph selects of an image; 0: it has none.
int selected_queries(const Graph& graph) {
  for (const Node& node : graph.nodes())
    if (const auto* select = node.op.as<SelectQueries>()) return select->top;
  return 0;
}

// Of an op whose rows are queries. There may be fewer pairs of a query and a class than detections asked for.
void set_queries(const Graph& graph, Node& node, int count) {
  change_op<Attention>(node, [&](Attention& op) { op.tokens = count; });
  change_op<DeformableAttention>(node, [&](DeformableAttention& op) { op.queries = count; });
  change_op<DetectQueries>(node, [&](DetectQueries& op) {
    const std::int64_t classes = graph.value(node.inputs[0]).type.dims[1].constant();
    op.queries = count;
    op.top = static_cast<int>(std::min<std::int64_t>(op.top, count * classes));
  });
}

}  // namespace

void limit_queries(Graph& graph, int count) {
  const int most = selected_queries(graph);
  if (most == 0) fail(ErrorCode::kUsage, "num_queries {}: this model selects no queries", count);
  if (count < 1 || count > most)
    fail(ErrorCode::kUsage, "num_queries {}: this model selects {}, so give 1 to {}", count, most, most);
  std::set<ValueId> of_queries;  // and what is made of them
  for (Node& node : graph.mutable_nodes()) {
    const bool follows = std::any_of(node.inputs.begin(), node.inputs.end(),
                                     [&](ValueId id) { return of_queries.contains(id); });
    if (node.op.as<SelectQueries>()) {
      change_op<SelectQueries>(node, [&](SelectQueries& op) { op.top = count; });
    } else if (follows) {
      set_queries(graph, node, count);
    } else {
      continue;
    }
    of_queries.insert(node.outputs.begin(), node.outputs.end());
  }
  graph.infer_types();
}

}  // namespace osprey
