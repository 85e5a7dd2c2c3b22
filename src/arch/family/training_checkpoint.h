// What PyTorch's training frameworks wrap around a model's weights.
#pragma once

#include <vector>

#include "core/named_tensor.h"

namespace osprey {

// The model's part of the file: the section "model" or "state_dict", or all of a flat file; "module." (of
// DistributedDataParallel) taken off. What lies in other sections keeps its section before its name, so that
// the account shows it as unused, except the optimizer's and scheduler's state, which is left out.
std::vector<NamedTensor> model_tensors(const Checkpoint& checkpoint);

}  // namespace osprey
