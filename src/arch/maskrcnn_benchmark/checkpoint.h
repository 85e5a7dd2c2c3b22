// The tensors of a checkpoint under the names that maskrcnn-benchmark's modules have.
#pragma once

#include <string>
#include <vector>

#include "core/named_tensor.h"

namespace osprey::maskrcnn_benchmark {

// Whether the names are the framework's own.
bool is_own(const Checkpoint& checkpoint);

// Of a training checkpoint, a bare state dict, or a file of Detectron's, whose names become such as the
// framework's end with.
std::vector<NamedTensor> tensors_of(const Checkpoint& checkpoint);

// As the framework finds weights: each of those asked for that no tensor has the name of gets the tensor with
// the longest name that its own ends with, where there is one. A tensor may serve several, and is then not
// left over under its own name.
std::vector<NamedTensor> found_by_suffix(const std::vector<NamedTensor>& tensors,
                                         const std::vector<std::string>& asked);

// The anchors of the levels' cells, which the framework keeps among the weights and takes from there,
// whatever the config says: `levels` times [per_cell, 4]. Empty where the file has none; bad input where it
// has another number.
std::vector<float> given_anchors(const std::vector<NamedTensor>& tensors, std::size_t levels, int per_cell);

}  // namespace osprey::maskrcnn_benchmark
