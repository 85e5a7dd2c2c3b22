#include "cuda/conversions.h"

#include <algorithm>

#include "cuda/stem_conv.h"
#include "ops/conv.h"
#include "ops/dequantize.h"
#include "ops/roi_align.h"
#include "ops/squeeze_excite.h"
#include "ops/weighted_sum.h"

namespace osprey {
namespace {

bool is_integer(DType type) { return type == DType::kI8 || type == DType::kU8; }

bool samples_bins(const Op& op) {
  const auto* align = op.as<RoiAlign>();
  return align && align->sampling == RoiSampling::kBins;
}

// What makes an input of a node; null unless it is a `dequantize`.
const Node* dequantizer(const Graph& graph, ValueId input) {
  const Node* node = graph.producer(input);
  return node && node->op.as<Dequantize>() ? node : nullptr;
}

}  // namespace

bool stores_integers(const CudaPrepare& p) {
  const Op& op = p.node().op;
  return op.as<WeightedSum>() || op.as<SqueezeExcite>() || samples_bins(op) ||
         (op.as<Conv>() && (is_stem_conv(p) || is_small_stem_conv(p)));
}

const Quantize* quantization_of(const CudaPrepare& p) {
  if (!is_integer(p.output(0).dtype)) return nullptr;
  const auto& nodes = p.graph().nodes();
  const auto reader = std::find_if(nodes.begin(), nodes.end(), [&](const Node& node) {
    return node.op.as<Quantize>() && node.inputs[0] == p.node().outputs[0];
  });
  return reader == nodes.end() ? nullptr : reader->op.as<Quantize>();
}

bool reads_integers(const Graph& graph, const Node& node) {
  if (!samples_bins(node.op) || graph.value(node.inputs[0]).type.dtype != DType::kF16) return false;
  const auto type = [&](ValueId map) {
    const Node* from = dequantizer(graph, map);
    return from ? graph.value(from->inputs[0]).type.dtype : DType::kF32;
  };
  return std::all_of(node.inputs.begin(), node.inputs.end() - 1,
                     [&](ValueId map) { return is_integer(type(map)) && type(map) == type(node.inputs[0]); });
}

float unit_of(const CudaPrepare& p, std::size_t i) {
  if (!is_integer(p.input(i).dtype)) return 1;
  return dequantizer(p.graph(), p.node().inputs[i])->op.as<Dequantize>()->scale;
}

}  // namespace osprey
