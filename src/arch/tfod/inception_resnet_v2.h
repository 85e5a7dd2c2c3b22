// Inception-ResNet v2 (Szegedy et al. 2016) as the Object Detection API has it
// (models/keras_models/inception_resnet_v2.py): Keras' own with SAME padding everywhere, and batch norms of
// epsilon 1e-3 without gamma.
//
// Most of Keras' layers have no name but a running number, which starts wherever the program was. Here it
// counts from 0 in the order Keras makes the layers. Weight names: "<prefix>conv2d_17/kernel" and
// "<prefix>conv2d_17_bn/beta"; of the named layers "<prefix>block35_1_conv/kernel", "<prefix>conv_7b/kernel",
// "<prefix>conv_7b_bn/beta".
#pragma once

#include <string>

#include "graph/net.h"

namespace osprey {

// How many numbered convolutions there are: in the first part, and in both.
inline constexpr int kInceptionFirstConvs = 156, kInceptionConvs = 203;

// From the image to "block17_20": stride 16, 1088 channels.
ValueId inception_resnet_v2_first(Net& net, const std::string& prefix, ValueId image);

// From there to "conv_7b": stride 2, 1536 channels.
ValueId inception_resnet_v2_second(Net& net, const std::string& prefix, ValueId x);

}  // namespace osprey
