// Calibration of int8: the ranges of activations, collected by running the model in fp32 on photos.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "engine/calibration_cache.h"
#include "graph/graph.h"
#include "osprey/engine.h"
#include "passes/quantize.h"

namespace osprey {

// What calibration found, from the cache or by running.
struct Calibration {
  CalibrationCache found;
  std::vector<std::string> remarks;  // photos that could not be read, where the numbers come from
};

// `graph` has been through the passes in f32. Photos are read one at a time; what is kept does not grow with
// their number. Errors: no photo that can be read, values that are not finite or never change, a cache that
// belongs to something else.
Calibration calibrate(const Graph& graph, const BuildOptions& options);

// The limits, as the pass takes them. Values that never came (boxes that no photo had) have none.
Quantization quantization_of(const CalibrationCache& cache);

}  // namespace osprey
