// Fewer queries of a DETR than its model selects, without importing it again.
#pragma once

#include "graph/graph.h"

namespace osprey {

// Makes the graph select the best `count` tokens of an image as queries. It then is the graph that a config
// with this number gives: the selection's order does not depend on how many it takes. A usage error where
// the graph selects fewer, or none.
void limit_queries(Graph& graph, int count);

}  // namespace osprey
