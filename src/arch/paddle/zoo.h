// PaddleDetection's official configs of RT-DETR and Mask RT-DETR.
#pragma once

#include "arch/family/official_configs.h"

namespace osprey::paddle {

const OfficialConfigs& officials();

}  // namespace osprey::paddle
