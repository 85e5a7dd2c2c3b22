// The keys of PaddleDetection's configs that detectors of the DETR architecture have, with the defaults of
// its modules (ppdet/modeling, develop branch of 2024).
#pragma once

#include "arch/family/keyed_config.h"

namespace osprey::paddle {

const KeyTable& keys();

}  // namespace osprey::paddle
