// Which layers a GPU computes sooner in fp16 than in 8 bits, by their shapes: an engine holds nothing
// measured.
#pragma once

#include <set>
#include <string>

#include "passes/quantize.h"

namespace osprey {

// Stems, over so few channels that the units that multiply integers would mostly see padding; transposed
// convolutions, for which there is no kernel of integers; and convolutions of one pixel over what these made,
// and small fully connected layers, since what they read would first have to be quantised, which takes longer
// than the layer. By what they make.
std::set<std::string> sooner_in_floats(const Graph& graph);

// Small blocks around squeezes and weighted sums, with which fp16's convolutions share launches where those
// of integers do not, and small layers that read nothing but what such ones make, levels of a head together.
// Small is what a GPU of tensor cores does in fp16 in the time that launching its kernels takes.
std::set<std::string> sooner_beside_floats(const Graph& graph, const Quantization& plan, int photos);

}  // namespace osprey
