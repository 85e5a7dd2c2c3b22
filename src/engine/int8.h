// An int8 build, from a model to what the pass needs: calibration, the choice of layers that stay in floats,
// and int8's detections beside fp32's.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "graph/model.h"
#include "osprey/engine.h"
#include "passes/quantize.h"

namespace osprey {

struct Int8Plan {
  Quantization quantization;
  Int8Report report;
  std::vector<std::string> remarks;
  std::map<std::string, std::string> metadata;  // for the engine file: the same with a cache and without
};

// `model`: its graph after the passes, f32, with its own thresholds. A usage error where a bound cannot be
// checked, and an error where detections are lost, unless it is forced.
Int8Plan plan_int8(const Model& model, const BuildOptions& options);

}  // namespace osprey
