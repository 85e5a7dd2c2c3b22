// Where launches may begin while the kernel before them still runs (cuda/early_launch.cuh).
#pragma once

#include "cuda/kernel.h"

namespace osprey {

// Kernels wait for the one before them only as they are compiled for compute capability 9.0, which is for its
// devices alone: later ones compile 8.0's, which do not wait.
inline bool may_launch_early(const CudaDevice& device) { return device.major == 9; }

}  // namespace osprey
