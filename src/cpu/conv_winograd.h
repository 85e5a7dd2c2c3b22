// 3x3 convolutions by Winograd's minimal filtering: fewer multiplications than the definition has.
#pragma once

#include <memory>

#include "cpu/kernel.h"

namespace osprey {

// The step of a conv node, or null where the direct convolution is faster or this one does not apply.
std::unique_ptr<CpuStep> winograd_step(CpuPrepare& prepare);

}  // namespace osprey
