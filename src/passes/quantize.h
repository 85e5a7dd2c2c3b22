// int8: which layers compute in integers, with what scales, and where values change between floats and
// integers. Runs on the graph that all other passes have made, and that calibration has looked at.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace osprey {

struct Quantization {
  // For values by name: the largest magnitude that integers are to hold; beyond it they saturate.
  std::map<std::string, float> limits;
  std::set<std::string> kept;  // values whose layers stay in floats

  bool empty() const { return limits.empty(); }
};

// Whether a node is a layer that could compute in integers. Fully connected layers and transposed
// convolutions that make scores and deltas (f32_out) could not.
bool is_quantizable(const Graph& graph, const Node& node);

// The values whose limits quantize() can use: what such layers read, add and make.
std::vector<std::string> values_to_calibrate(const Graph& graph);

// Never below zero, whatever the photo: such values become u8, others i8.
bool is_non_negative(const Graph& graph, ValueId value);

}  // namespace osprey
