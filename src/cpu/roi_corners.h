// ops/roi_align.h with sampling corners.
#pragma once

#include <memory>

#include "cpu/kernel.h"

namespace osprey {

std::unique_ptr<CpuStep> roi_corners_step(CpuPrepare& prepare);

}  // namespace osprey
