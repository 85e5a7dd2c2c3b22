// Convolutions of integers by our own kernel for Hopper GPUs (cuda/hopper/quantized_conv_group.h), cut into
// tiles as the tuner finds fastest.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cuda/kernel.h"

namespace osprey {

// Null for those that it is not for, and on other devices.
std::unique_ptr<CudaStep> quantized_hopper_step(CudaPrepare& prepare);

// Convolutions of the same key may be one step (cuda/schedule.h); empty: this node may not, or not on this
// device.
std::string quantized_group_key(const Graph& graph, const Node& node, const CudaDevice& device);

// The step's inputs and outputs are those of all members, one after the other. Null where a member's shapes
// turn out not to be for it.
std::unique_ptr<CudaStep> quantized_group_step(std::span<CudaPrepare* const> members);

// Joins selections of anchors that have a threshold to the group of nodes that makes all of their scores,
// where they alone read those: then only scores that may pass it are stored (cuda/score_flags.h).
void join_selections(const Graph& graph, const CudaDevice& device,
                     std::vector<std::vector<const Node*>>& groups);

// As quantized_group_step(), of such a group: the last member is the selection.
std::unique_ptr<CudaStep> selected_scores_step(std::span<CudaPrepare* const> members);

}  // namespace osprey
