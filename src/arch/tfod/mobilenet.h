// MobileNet v1 (Howard et al. 2017) and v2 (Sandler et al. 2018) as Keras has them and the Object Detection
// API changes them (models/keras_models/mobilenet_v{1,2}.py): SAME padding everywhere, a least width.
// Weight names are Keras' layers: "<prefix>conv_pw_3/kernel", "<prefix>block_1_depthwise_BN/beta".
#pragma once

#include <string>

#include "arch/blocks/features.h"
#include "arch/tfod/hyperparams.h"

namespace osprey::tfod {

struct MobileNet {
  int version = 2;
  float depth_multiplier = 1;
  int min_depth = 0;
  bool narrow_top = false;  // v1 with the last two widths 512 and 256
  Hyperparams layers{.activation = Activation::kRelu6, .norm = TfNorm{}};
};

// "level2" to "level5" with strides 4 to 32, each what a feature pyramid takes; for v2 then "expansion": the
// widened map of stride 16 within block 13.
Features mobilenet(Net& net, const std::string& prefix, const MobileNet& m, ValueId image);

}  // namespace osprey::tfod
