// A depthwise convolution, the squeeze and excitation of its map, and the 1x1 convolution of that as one
// step: the first leaves the sums of its channels, and the gates made of them scale the last one's weights
// (cuda/gated_weights.h), so that the map is neither read for its means nor scaled.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "cuda/kernel.h"

namespace osprey {

// Joins groups of one node each that may be such a step, in that order, where the last of them stands.
// `tf32`: f32 sums need not be the CPU's.
void join_squeezed_convs(const Graph& graph, bool tf32, std::vector<std::vector<const Node*>>& groups);

bool is_squeezed_conv(std::span<const Node* const> nodes);

// The scaled map is only stored where somebody may look at it, outside a CUDA graph.
std::unique_ptr<CudaStep> squeezed_conv_step(std::span<CudaPrepare* const> members);

}  // namespace osprey
