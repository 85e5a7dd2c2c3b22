// What the message model.ssd of a pipeline.config says (object_detection/protos/ssd.proto), as the options of
// the network. Refuses by name what is not supported.
#pragma once

#include "arch/tfod/config.h"
#include "arch/tfod/ssd.h"

namespace osprey::tfod {

// `height` and `width`: of a fixed input instead of the config's, or 0.
Ssd ssd_options(Config& config, int height, int width);

}  // namespace osprey::tfod
