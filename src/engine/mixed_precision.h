// Which blocks of layers stay in floats so that int8 keeps its accuracy, found by measuring.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/accuracy.h"
#include "engine/calibration_cache.h"
#include "passes/quantize.h"

namespace osprey {

// Layers that are judged together: a residual block, a branch of a head.
struct Block {
  std::string name;
  std::vector<std::string> values;  // what its layers make
};

// "backbone.res2.0" of "backbone.res2.0.conv1", "net/block_1" of "net/block_1_expand".
std::string block_name(std::string_view layer);

// The blocks of the layers that `plan` lets compute in integers, in their order.
std::vector<Block> blocks_of(const Graph& graph, const Quantization& plan);

// The graph with what `plan` says in integers.
Graph quantized(const Graph& graph, const Quantization& plan);

struct AccuracyBound {
  std::optional<double> change, ap_drop;
  double seconds = 0;  // after which blocks are kept by twos, fours, ...
  // "detection change <= 0.01"; empty where nothing is asked.
  std::string text() const;
};

// Keeps the blocks that change detections most, each alone in int8, until the bound holds.
Int8Decision decide(const Graph& graph, const Quantization& plan, const AccuracyCheck& check,
                    const AccuracyBound& bound, const Progress& progress);

// `plan` with the layers of kept blocks in floats.
Quantization without(Quantization plan, const Graph& graph, const std::vector<Int8Decision::Kept>& kept);

}  // namespace osprey
