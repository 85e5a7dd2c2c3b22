// Passes: Graph -> Graph rewrites, one file each, run in a written order by one runner that names, times and
// verifies each of them, and leaves out those that are switched off (--disable-pass), so that finding the
// pass that broke a model is a matter of flags.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"
#include "osprey/engine.h"
#include "passes/quantize.h"

namespace osprey {

// Where an f32 engine has the factors of norms with BatchNorm::exact_factor.
enum class ExactFactors : std::uint8_t {
  kInWeights,  // nowhere of their own: folded like all others
  kInConv,     // in the convolution's epilogue
  kInNorm,     // in a normalisation that stays
};

struct PassOptions {
  std::vector<std::string> disabled;  // names of passes to leave out; an unknown one is a usage error
  std::vector<std::string> kept;      // values that must survive even when nothing uses them
  DType precision = DType::kF32;      // of activations and weights between preprocessing and scores
  std::vector<std::string> keep_f32;  // values whose nodes stay f32 nevertheless (passes/keep_f32.h)
  ExactFactors exact_factors = ExactFactors::kInWeights;
  Quantization quantization;  // for int8; without limits nothing is quantised
  // Computes one node on constants, for constant folding; without it nothing is folded.
  std::function<std::vector<Tensor>(const Node&, const std::vector<Tensor>&)> evaluate;
};

struct Pass {
  std::string_view name;
  std::string_view why_here;  // what it does and why at this point of the pipeline
  void (*run)(Graph&, const PassOptions&);
};

// Every pass, in the order in which they run.
const std::vector<Pass>& pipeline();

std::vector<PassReport> run_passes(Graph& graph, const PassOptions& options = {});

// The passes, for the pipeline and for tests.
void drop_dead_code(Graph&, const PassOptions&);
void fold_constants(Graph&, const PassOptions&);
void fold_batch_norm(Graph&, const PassOptions&);
void fold_scale(Graph&, const PassOptions&);
void merge_branches(Graph&, const PassOptions&);
void fuse_residual(Graph&, const PassOptions&);
void fuse_upsample(Graph&, const PassOptions&);
void fuse_activation(Graph&, const PassOptions&);
void lower_precision(Graph&, const PassOptions&);
void fuse_squeeze_excite(Graph&, const PassOptions&);
void quantize(Graph&, const PassOptions&);

}  // namespace osprey
