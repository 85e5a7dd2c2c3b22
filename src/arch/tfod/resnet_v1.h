// ResNet v1 as the Object Detection API has it (models/keras_models/resnet_v1.py): Keras' own, but that its
// convolutions have no bias, which strides in a block's first 1x1 convolution (and in its shortcut), pads as
// SAME does except before the first convolution, and takes its batch norms, its activation and a factor of
// its widths from the config that uses it. Weight names: "<prefix>conv1_conv/kernel", "<prefix>conv1_bn/...",
// "<prefix>conv2_block1_1_conv/kernel",
// ...
#pragma once

#include <string>

#include "arch/blocks/features.h"
#include "arch/blocks/tf_layers.h"

namespace osprey {

struct ResNetV1 {
  int depth = 50;  // 50, 101, 152
  Activation activation = Activation::kRelu;
  TfNorm norm{.epsilon = 1e-5f};
  float depth_multiplier = 1;  // of the widths, which then are at least
  int min_depth = 8;
  bool keras = false;  // Keras' own indeed: with biases, and a pool that is padded alike on all sides
};

// The stages "conv2" (stride 4) up to `last` (2..5).
Features resnet_v1(Net& net, const std::string& prefix, const ResNetV1& m, ValueId image, int last);

// One stage (2..5); all but conv2 halve the map.
ValueId resnet_v1_stage(Net& net, const std::string& prefix, const ResNetV1& m, int stage, ValueId x);

}  // namespace osprey
