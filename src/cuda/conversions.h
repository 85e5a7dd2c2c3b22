// Conversions from and to 8 bits that kernels do themselves: of a result that a `quantize` alone reads, of
// maps that a `dequantize` gives. Those are then no steps of their own; the graph keeps them, only the plan
// joins them to the node before or behind.
#pragma once

#include "cuda/kernel.h"
#include "ops/quantize.h"

namespace osprey {

// Whether the kernel of this step, as the graph has it, can store output 0 in 8 bits.
bool stores_integers(const CudaPrepare& prepare);

// How output 0 of this step is quantised from what its op makes; null: it is not.
const Quantize* quantization_of(const CudaPrepare& prepare);

// Whether the kernel of this node can read the integers themselves that all its maps are dequantised from.
bool reads_integers(const Graph& graph, const Node& node);

// What one unit of a map that this step reads stands for: 1 for floats.
float unit_of(const CudaPrepare& prepare, std::size_t input);

}  // namespace osprey
