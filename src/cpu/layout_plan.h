// Which layout each 4-D value has, and where copies between layouts are needed.
#pragma once

#include <vector>

#include "cpu/kernel.h"

namespace osprey {

// The best block for this CPU (CpuLayout::block).
int preferred_block();

// A value in one layout. A value of the graph may have several: the one its kernel makes, and copies.
struct LaidValue {
  ValueId value = kNoValue;
  CpuLayout layout;
  int copy_of = -1;  // the index of the original
};

// One thing to run: a node of the graph, or a copy from ins[0] to outs[0].
struct LaidStep {
  const Node* node = nullptr;  // null: a copy
  std::vector<int> ins;        // indices of LaidValues; -1 where an optional input is absent
  std::vector<int> outs;
};

struct LayoutPlan {
  std::vector<LaidValue> values;
  std::vector<LaidStep> steps;
  std::vector<int> outputs;  // the graph's outputs, in C order
};

// `kernels` holds the kernel of each node. A value keeps the layout its kernel makes; a consumer that needs
// another one gets a copy, made right before the first that needs it.
LayoutPlan plan_layouts(const Graph& graph, const std::vector<const CpuKernel*>& kernels, int block);

}  // namespace osprey
