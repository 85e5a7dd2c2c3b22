// EfficientDet's class and box nets: one set of convolutions for all levels, with batch norms of each level's
// own.
//
// Weight names: "<net>_net/<net>-<r>/...", "<net>_net/<net>-<r>-bn-<level>/...",
// "<net>_net/<net>-predict/...", where <net> is "class" or "box".
#pragma once

#include <string>
#include <vector>

#include "arch/blocks/features.h"
#include "graph/enums.h"

namespace osprey::efficientdet {

struct HeadNet {
  std::string name;  // "class" or "box"
  int out = 0;       // channels of the prediction
  int repeats = 3, width = 64;
  bool separable = true;
  bool residual = false;  // from the second repeat on
  Activation activation = Activation::kSwish;
  int min_level = 3;  // of the first feature
};

// A prediction a level, f32.
std::vector<ValueId> head_net(Net& net, const HeadNet& m, const Features& levels);

}  // namespace osprey::efficientdet
