// Ops are immutable: a node's op is changed by giving it another.
#pragma once

#include <utility>

#include "graph/graph.h"

namespace osprey {

// Calls `change` with a copy of the node's op, if that is a T, which then takes its place.
template <class T, class Change>
void change_op(Node& node, Change change) {
  if (const T* op = node.op.as<T>()) {
    T copy = *op;
    change(copy);
    node.op = Op(std::move(copy));
  }
}

}  // namespace osprey
