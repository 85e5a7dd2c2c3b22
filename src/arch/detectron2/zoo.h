// Detectron2's official configs.
#pragma once

#include "arch/family/official_configs.h"

namespace osprey::detectron2 {

const OfficialConfigs& officials();

}  // namespace osprey::detectron2
