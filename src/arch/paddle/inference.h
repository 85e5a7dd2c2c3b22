// Exported models, whose parameters have no names that tell what they are (formats/paddle_inference.h).
#pragma once

#include <string>
#include <vector>

#include "core/named_tensor.h"

namespace osprey::paddle {

// The checkpoint under the names that a model asks for, which are given in the order in which it does: that
// of the program's use. Bad input unless there are as many. What the framework made itself before it exported
// (anchors, position embeddings) is left out.
Checkpoint named_by_order(const Checkpoint& exported, const std::vector<std::string>& asked);

}  // namespace osprey::paddle
