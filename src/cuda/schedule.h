// In which order a graph's nodes run, and which of them together.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace osprey {

// The nodes in an order in which they can run. Nodes of the same key, where it is not empty, that do not wait
// for each other stand together, at most `most` of them: those that share a weight first of all (a head on
// the levels of a pyramid), then those that are as far from the inputs (several heads).
std::vector<std::vector<const Node*>> scheduled(const Graph& graph,
                                                const std::function<std::string(const Node&)>& key,
                                                std::size_t most);

}  // namespace osprey
