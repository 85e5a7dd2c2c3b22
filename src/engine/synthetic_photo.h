// A photo for runs whose result nobody looks at: tuning, and the check of fp16.
#pragma once

#include "graph/graph.h"
#include "osprey/image.h"

namespace osprey {

// Noise, flat colours and slopes, the same every time, of the largest size that the graph's preprocessing
// takes without enlarging or reducing it.
Image synthetic_photo(const Graph& graph);

}  // namespace osprey
