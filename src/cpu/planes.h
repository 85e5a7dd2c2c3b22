// Pieces that kernels over 4-D values of any layout share.
#pragma once

#include "cpu/kernel.h"

namespace osprey {

// out = in with every pixel repeated `scale` times each way.
void upsample_nearest(const CpuValue& in, const CpuValue& out, int scale, int threads);

}  // namespace osprey
