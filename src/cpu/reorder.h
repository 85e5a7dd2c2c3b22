// Copies of 4-D values between layouts.
#pragma once

#include <memory>

#include "cpu/kernel.h"

namespace osprey {

// Writes `in` in the layout of `out`; extents and type are the same, padded channels become zero.
void reorder(const CpuValue& in, const CpuValue& out, int threads);

// The step that copies in(0) to out(0), whatever their layouts.
std::unique_ptr<CpuStep> reorder_step();

// A copy of the live rows in C order.
Tensor c_order_copy(const CpuValue& value, int threads);

}  // namespace osprey
