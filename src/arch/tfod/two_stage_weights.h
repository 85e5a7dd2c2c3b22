// The weights of two-stage models: arch/tfod/checkpoint.h's, with Inception-ResNet's running numbers from 0.
#pragma once

#include <vector>

#include "core/named_tensor.h"

namespace osprey::tfod {

std::vector<NamedTensor> two_stage_tensors(const Checkpoint& checkpoint);

// Keras numbers layers without a name ("conv2d_211", "freezable_batch_norm_211") on from whatever the program
// made before. Of each part the order is what counts: they become "conv2d_156" and "conv2d_156_bn", numbers
// as arch/tfod/inception_resnet_v2.h has them.
std::vector<NamedTensor> renumbered(std::vector<NamedTensor> tensors);

}  // namespace osprey::tfod
