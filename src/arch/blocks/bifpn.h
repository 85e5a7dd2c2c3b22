// Bidirectional feature pyramid (Tan et al., 2020), as google/automl has it: cells of a top-down and a
// bottom-up path, each node of which fuses maps of several levels and convolves the sum.
//
// Weight names are those of one of two projects. google/automl: "resample_p<level>/..." of the levels that
// the trunk does not reach, and "fpn_cells/cell_<c>/fnode<n>/{WSM,WSM_1,WSM_2}",
// ".../resample_<k>_<from>_<node>/{conv2d,bn}", ".../op_after_combine<node>/{conv,bn}", where nodes are
// counted from the cell's inputs up. tensorflow/models, whose nodes are counted through, those levels first:
// "<prefix>node_input_blocks/<node>/<k>/1/{0,1}/...",
// "<prefix>node_combine_op/<node>/bifpn_combine_weights/<k>",
// "<prefix>node_post_combine_block/<node>/{1,2}/...".
#pragma once

#include <string>
#include <vector>

#include "arch/blocks/features.h"
#include "arch/blocks/tf_layers.h"
#include "graph/enums.h"

namespace osprey {

struct BiFpn {
  int width = 64, cells = 3;
  int min_level = 3, max_level = 7;
  bool weighted = true;                // fast normalised fusion; else a plain sum
  bool batch_norm = true;              // of the convolutions that change the number of channels
  bool project_trunk = false;          // one of those before every map of the trunk, whatever its width
  bool conv_after_downsample = false;  // those convolutions work on the smaller map
  bool separable = true;               // the convolution after a sum
  bool activation_last = false;        // behind that convolution and its batch norm, not before it
  bool bias = true;                    // of all its convolutions, but with activation_last
  TfNorm norm{.exact_factor = true};
  Activation activation = Activation::kSwish;
  bool tf_models = false;  // the names of tensorflow/models
  std::string prefix;      // of those

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
