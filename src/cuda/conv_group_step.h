// Several convolutions of a graph as one step: in one launch of our own kernel (cuda/hopper/conv_group.h)
// where that is faster than one after the other, which the tuner measures.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cuda/kernel.h"

namespace osprey {

inline constexpr std::size_t kMostConvsOfAStep = 16;

// Convolutions of the same key may be one step; empty: this node may not, or not on this device.
std::string conv_group_key(const Graph& graph, const Node& node, const CudaDevice& device);

// Whether a step of this one is worth the same, since libraries have nothing like it.
bool is_conv_group(const Node& node, const std::string& key);

// Joins groups of nodes whose convolutions predict from what others make (a proposal network's) to the groups
// of those, where one launch may make both.
void join_predictors(const Graph& graph, const CudaDevice& device,
                     std::vector<std::vector<const Node*>>& groups);

// The step's inputs and outputs are those of all members, one after the other; members that read what others
// make come behind those. `each` makes a member ready by itself, `scratch` is the largest request for scratch
// so far.
std::unique_ptr<CudaStep> conv_group_step(std::span<CudaPrepare* const> members,
                                          const std::function<std::unique_ptr<CudaStep>(CudaPrepare&)>& each,
                                          const std::function<std::size_t()>& scratch);

// A convolution of a map so small that its tiles leave most of the device idle, and of long sums: those are
// split by taps over the device, in a launch, and added up in another. Null for others, or on other devices.
std::unique_ptr<CudaStep> conv_parts_step(CudaPrepare& prepare);

}  // namespace osprey
