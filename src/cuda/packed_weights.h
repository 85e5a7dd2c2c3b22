// Weights in the order and type that matrix libraries take, from the checkpoint's order.
#pragma once

#include "core/tensor.h"
#include "cuda/kernel.h"

namespace osprey {

// f32 values as `type`.
Tensor as_type(const Tensor& f32, DType type);

// [outputs, inputs] as [inputs, outputs].
Tensor transposed(const Tensor& f32);

// The axes of a tensor of four in another order: permuted(w, {0, 2, 3, 1}) puts axis 1 last.
Tensor permuted(const Tensor& f32, const std::array<std::size_t, 4>& axes);

// Input `i`, a weight, on the device, as `pack` makes it of its f32 values; `what` tells packings apart.
std::shared_ptr<const DeviceBuffer> packed_weight(const CudaPrepare& p, std::size_t i,
                                                  const std::string& what,
                                                  const std::function<Tensor(const Tensor& f32)>& pack);

// A bias.
std::shared_ptr<const DeviceBuffer> packed_vector(const CudaPrepare& p, std::size_t i, DType type);

}  // namespace osprey
