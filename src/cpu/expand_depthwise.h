// A 1x1 convolution, or the stem, and the depthwise one that alone reads its result, as networks of inverted
// bottlenecks have them (MobileNetV2, EfficientNet), done together. The map between the two is the largest of
// its block, and is never written: a few of its rows at a time stay in the cache.
#pragma once

#include <memory>

#include "cpu/kernel.h"

namespace osprey {

// Whether two conv nodes, the second reading the first's result, are done together on this processor: where
// that is faster.
bool expands_depthwise(const CpuPrepare& expand, const CpuPrepare& depthwise);

// Their step: input 0 is that of `expand`, output 0 that of `depthwise`.
std::unique_ptr<CpuStep> expand_depthwise_step(CpuPrepare& expand, CpuPrepare& depthwise);

}  // namespace osprey
