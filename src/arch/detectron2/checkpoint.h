// The tensors of a checkpoint under the names that Detectron2's modules have.
#pragma once

#include <string>
#include <vector>

#include "core/named_tensor.h"

namespace osprey::detectron2 {

// Whether the names are Detectron2's own.
bool is_detectron2(const Checkpoint& checkpoint);

// Names that zoo files still carry but models no longer read, and counters of batch norms.
bool is_leftover(const std::string& name);

struct Detectron1Names {
  bool pyramid = true;         // the trunk is under "backbone.bottom_up."
  bool res5_in_heads = false;  // C4: res5 belongs to the heads
};
// Tensors of a Detectron (Caffe2) file under Detectron2's names. Background, which comes first there, moves
// to the end of the class scores and is dropped from boxes and masks; batch norms, which are affine there,
// get mean 0 and variance 1; momenta are left out. Rows are moved when a tensor is loaded.
std::vector<NamedTensor> from_detectron1(const Checkpoint& checkpoint, const Detectron1Names& names);

}  // namespace osprey::detectron2
