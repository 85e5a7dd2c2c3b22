// Depthwise convolutions and the 1x1 convolutions that alone read what they make (separable convolutions) as
// one step: in one launch (cuda/separable_conv.h) where that is faster, which the tuner measures.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "cuda/kernel.h"

namespace osprey {

// Joins to groups of depthwise convolutions the 1x1 convolutions behind them, where one launch may make both;
// to a single one also the weighted sum that it alone reads, and the pooling that the sum alone reads.
// Members of such a group in order: pooling, sum, depthwise convolutions, 1x1 convolutions in the same order.
void join_separable(const Graph& graph, std::vector<std::vector<const Node*>>& groups);

// Whether a step's members are such a group.
bool is_separable(std::span<CudaPrepare* const> members);

// Its step. `in_turn` makes several convolutions of one kind ready, `each` any member by itself; `scratch` is
// the largest request for scratch so far.
std::unique_ptr<CudaStep> separable_step(
    std::span<CudaPrepare* const> members,
    const std::function<std::unique_ptr<CudaStep>(std::span<CudaPrepare* const>)>& in_turn,
    const std::function<std::unique_ptr<CudaStep>(CudaPrepare&)>& each,
    const std::function<std::size_t()>& scratch);

}  // namespace osprey
