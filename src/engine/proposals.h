// Proposals made beforehand, as a graph takes them (graph/model.h).
#pragma once

#include <span>
#include <vector>

#include "core/tensor.h"
#include "graph/graph.h"
#include "osprey/detections.h"
#include "osprey/image.h"

namespace osprey {

// Whether the graph needs them.
bool takes_proposals(const Graph& graph);

// The graph's input: rows (image, x0, y0, x1, y1), each image's best first, of equal ones the earlier.
Tensor proposal_rows(std::span<const std::vector<Proposal>* const> images);

// Boxes anywhere in the photo, for runs whose result nobody looks at.
std::vector<Proposal> synthetic_proposals(const ImageView& photo);

}  // namespace osprey
