// Which blocks of layers stay in floats so that int8 keeps its accuracy, found by measuring.
#pragma once

#include <functional>
#include <optional>
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
  double margin = 0;   // standard errors of the drop of AP that are added to it
  double seconds = 0;  // after which blocks are kept by twos, fours, ..., and no more choices tried for AP
  // "detection change <= 0.01, AP drop + 2 standard errors <= 0.002"; empty where nothing is asked.
  std::string text() const;
  bool shows_ap() const { return ap_drop && margin > 0; }
};

// Whether a bound holds with so many blocks in integers, those that change detections least; and whether the
// time for finding out is over.
using Holds = std::function<bool(std::size_t blocks)>;
using Late = std::function<bool()>;

// The first number of blocks that holds, from all to none; by steps of two, four, ... once it is late.
std::size_t first_that_holds(std::size_t blocks, const Holds& holds, const Late& late);

// The same for what is only known up to chance, where many choices would let a lucky one through. All blocks
// are tried; then half of them, five eighths and so on for as long as each holds. Since a choice counts only
// where all gentler ones held, in an order settled before, a bound is broken by chance as rarely as by two
// choices, however many are tried; and where half of them do not hold the search is over. Fewer would hardly
// make an engine faster, and what they change is too rare for photos to tell how rare.
std::size_t most_shown(std::size_t blocks, const Holds& holds, const Late& late);

// Keeps the blocks that change detections most, each alone in int8: as few as the bound on what is measured
// allows, then as many as AP's takes to be shown.
Int8Decision decide(const Graph& graph, const Quantization& plan, const AccuracyCheck& check,
                    const AccuracyBound& bound);

// `plan` with the layers of kept blocks in floats.
Quantization without(Quantization plan, const Graph& graph, const std::vector<Int8Decision::Kept>& kept);

}  // namespace osprey
