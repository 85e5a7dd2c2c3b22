// Which elements ops take that only move values, or pick among them.
#pragma once

#include <initializer_list>

#include "core/dtype.h"

namespace osprey {

// Floats, and what layers in int8 store (ops/quantize.h).
inline constexpr std::initializer_list<DType> kStored{DType::kF32, DType::kBF16, DType::kF16, DType::kI8,
                                                      DType::kU8};

}  // namespace osprey
