// ops/roi_align.h with sampling corners.
#pragma once

#include <memory>

#include "cuda/kernel.h"

namespace osprey {

std::unique_ptr<CudaStep> roi_corners_step(CudaPrepare& prepare);

}  // namespace osprey
