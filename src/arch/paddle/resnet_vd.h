// ResNet-vd (He et al., "Bag of Tricks", 2019) as PaddleDetection has it
// (ppdet/modeling/backbones/resnet.py): a stem of three 3x3 convolutions, and shortcuts that average before
// their 1x1. Weight names: "backbone.conv1.conv1_1.conv", "backbone.res2.res2a.branch2a.conv", each with its
// ".norm".
#pragma once

#include <vector>

#include "arch/blocks/features.h"

namespace osprey::paddle {

struct ResNetVd {
  int depth = 50;  // 18, 34, 50, 101, 152
};

// The maps of the stages with these numbers (0..3 for res2..res5, strides 4..32), ascending.
Features resnet_vd(Net& net, const ResNetVd& m, ValueId image, const std::vector<int>& stages);

}  // namespace osprey::paddle
