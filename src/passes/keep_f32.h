// Single nodes that stay f32 in a graph that was lowered to a narrower type.
#pragma once

#include <string>
#include <vector>

#include "graph/graph.h"

namespace osprey {

// Whether a node makes one of the named values. (Names of nodes are no key: levels of a pyramid share
// layers.)
bool makes_any(const Graph& graph, const Node& node, const std::vector<std::string>& values);

// The nodes that make the named values read and make f32; casts stand where they meet the others. Their
// weights must be f32 still, and the types inferred as if they were lowered like the rest. Between two of
// them values stay f32, so that what one makes beyond f16's range reaches the other whole.
void keep_f32(Graph& graph, const std::vector<std::string>& values);

}  // namespace osprey
