// Which layers fp16 cannot hold, found by running the model in fp32.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "osprey/image.h"

namespace osprey {

// Values may come out larger on other photos than on those that were looked at: half of fp16's 65504.
inline constexpr float kLargestInFp16 = 32768;

struct OverflowReport {
  std::vector<std::string> values;   // whose layers must stay fp32 (PassOptions::keep_f32)
  std::vector<std::string> remarks;  // a line each: the layer, and how large its values come
};

// `graph` has been through the passes, but is f32. A layer stays fp32 whose values come larger than
// kLargestInFp16 on one of `photos`, or whose weights overflow, and so do the layers that read such values.
// Runs on the CPU. A usage error where the network's input itself overflows.
OverflowReport find_overflow(const Graph& graph, std::span<const ImageView> photos, int threads,
                             const std::function<void(double)>& progress = {});

}  // namespace osprey
