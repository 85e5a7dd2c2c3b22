// Bidirectional feature pyramid (Tan et al., 2020), as google/automl has it: cells of a top-down and a
// bottom-up path, each node of which fuses maps of several levels and convolves the sum.
//
// Weight names: "resample_p<level>/..." of the levels that the trunk does not reach, and
// "fpn_cells/cell_<c>/fnode<n>/{WSM,WSM_1,WSM_2}", ".../resample_<k>_<from>_<node>/{conv2d,bn}",
// ".../op_after_combine<node>/{conv,bn}", where nodes are counted from the cell's inputs up.
#pragma once

#include <string>
#include <vector>

#include "arch/blocks/features.h"
#include "graph/enums.h"

namespace osprey {

struct BiFpn {
  int width = 64, cells = 3;
  int min_level = 3, max_level = 7;
  bool weighted = true;                // fast normalised fusion; else a plain sum
  bool batch_norm = true;              // of the convolutions that change the number of channels
  bool conv_after_downsample = false;  // those convolutions work on the smaller map
  bool separable = true;               // the convolution after a sum
  bool activation_last = false;        // behind that convolution and its batch norm, not before it
  Activation activation = Activation::kSwish;

  std::size_t levels() const { return static_cast<std::size_t>(max_level - min_level + 1); }
};

// A node of a cell: what it fuses, counted from the cell's inputs up, and whose extents its sum has.
struct BiFpnNode {
  int level = 0;
  std::vector<int> inputs;
};

// In the order they are made; the last node of a level is the cell's result there.
std::vector<BiFpnNode> bifpn_nodes(int min_level, int max_level);

// "bifpn_p3", ... of the trunk's levels from min_level up, in which "resample_p6" and further ones are added.
Features bifpn(Net& net, const BiFpn& m, const Features& trunk);

}  // namespace osprey
