// The one form of Python code in Detectron2's own configs: RetinaNet's anchor sizes,
//   !!python/object/apply:eval ["[[x, x * 2**(1.0/3), x * 2**(2.0/3)] for x in [32, 64, 128, 256, 512]]"]
#pragma once

#include <string_view>

#include "formats/config_tree.h"

namespace osprey::detectron2 {

// Replaces such a node, anywhere in the tree, by the lists that it stands for: for every number of the second
// list, the products, quotients and powers of x and numbers in the first. Any other Python tag or expression
// is bad input; nothing is run.
void expand_comprehensions(ConfigTree& tree);

}  // namespace osprey::detectron2
