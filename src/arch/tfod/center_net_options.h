// CenterNet as a pipeline.config has it (object_detection/protos/center_net.proto).
#pragma once

#include "arch/tfod/center_net.h"
#include "arch/tfod/config.h"

namespace osprey::tfod {

// height and width are the user's; 0: those of the config.
CenterNet center_net_options(Config& config, int height, int width);

}  // namespace osprey::tfod
