// What several rewrites need: who makes and uses a value, and whether a node's result is its user's alone.
#pragma once

#include "graph/graph.h"

namespace osprey {

// The positions of nodes, kept by the rewrite that holds it; rebuilt after a change of order.
class Uses {
 public:
  explicit Uses(const Graph& graph);

  // Index of the node that makes a value, or -1.
  int producer(ValueId value) const {
    return value == kNoValue ? -1 : producers_[static_cast<std::size_t>(value)];
  }
  // How many node inputs and graph outputs use it.
  int count(ValueId value) const { return counts_[static_cast<std::size_t>(value)]; }
  // The producer of a value that only one input uses; -1 when others use it too or nothing makes it.
  int sole_producer(ValueId value) const {
    return value != kNoValue && count(value) == 1 ? producer(value) : -1;
  }

 private:
  std::vector<int> producers_, counts_;
};

// Removes the nodes marked in `gone`, one mark a node.
void erase_nodes(Graph& graph, const std::vector<bool>& gone);

// The op of a node with its attributes changed.
template <class T, class Change>
Op changed(const Op& op, Change change) {
  T copy = *op.as<T>();
  change(copy);
  return Op(std::move(copy));
}

}  // namespace osprey
