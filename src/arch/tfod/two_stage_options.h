// The options of a two-stage model from its pipeline.config (model.faster_rcnn; faster_rcnn.proto).
#pragma once

#include "arch/tfod/config.h"
#include "arch/tfod/two_stage.h"

namespace osprey::tfod {

// `height` and `width`: of a fixed input, or 0. What cannot be done exactly is refused by name.
TwoStage two_stage_options(Config& config, int height, int width);

// "Mask R-CNN, Inception-ResNet v2, 1024x1024"
std::string describe(const TwoStage& m);

}  // namespace osprey::tfod
