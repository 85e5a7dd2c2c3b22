// ResNet and ResNeXt (He et al. 2015, Xie et al. 2017) as detectors use them: stem, then stages res2 to res5.
// Weight names: "<prefix>stem.conv1", "<prefix>res2.0.conv1", "<prefix>res2.0.shortcut", each convolution
// with its ".norm"; torchvision's instead where asked for: "<prefix>stem.conv1" with "<prefix>stem.bn1",
// "<prefix>layer1.0.conv1" with "<prefix>layer1.0.bn1", "<prefix>layer1.0.downsample.{0,1}".
#pragma once

#include <string>

#include "arch/blocks/features.h"
#include "arch/blocks/layers.h"

namespace osprey {

struct ResNet {
  int depth = 50;  // 18, 34, 50, 101, 152
  int stem_width = 64, res2_width = 256;
  int groups = 1, group_width = 64;  // a bottleneck's 3x3 in res2 has groups * group_width channels
  bool stride_in_1x1 = true;  // where a bottleneck strides: its first 1x1 (MSRA's) or its 3x3 (torch's)
  int res5_dilation = 1;      // 2: res5 keeps res4's stride
  bool torchvision_names = false;
  float epsilon = 1e-5f;           // of the batch norms
  GroupNormLayer group_norm = {};  // instead of them
};

// The stages up to `last` (2..5), and the stem under the name "stem".
Features resnet(Net& net, const std::string& prefix, const ResNet& m, ValueId image, int last);

// One stage (2..5) whose first block has this stride.
ValueId resnet_stage(Net& net, const std::string& name, const ResNet& m, int stage, int first_stride,
                     ValueId x);

// Channels that a stage gives.
int resnet_width(const ResNet& m, int stage);

}  // namespace osprey
