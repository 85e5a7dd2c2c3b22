#pragma once

#include <vector>

#include "cuda/kernel.h"

namespace osprey {

// What the maps of the weighted sum that is made ready are multiplied by.
std::vector<float> shares_of(const CudaPrepare& prepare);

}  // namespace osprey
