// Detectron2's complete config: every key, its default, and what it means here.
#pragma once

#include "arch/family/keyed_config.h"

namespace osprey::detectron2 {

const KeyTable& keys();

}  // namespace osprey::detectron2
