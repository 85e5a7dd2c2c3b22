// EfficientDet's variables: TensorFlow 1 names, each twice (raw, and "<name>/ExponentialMovingAverage"), or
// the same names in the object graph of a TensorFlow 2 checkpoint or SavedModel.
#pragma once

#include <string>
#include <vector>

#include "core/named_tensor.h"

namespace osprey::efficientdet {

bool is_efficientdet(const Checkpoint& checkpoint);

struct Variables {
  std::vector<NamedTensor> tensors;      // under their TensorFlow 1 names, weights in our layouts
  std::vector<std::string> passed_over;  // the other copy of each, with the reason
};
// Moving averages where the file has them, else the raw variables; without `averages` the raw ones. What
// belongs to the training alone (optimizer slots, counters) is left out.
Variables model_variables(const Checkpoint& checkpoint, bool averages);

// What the variables' names and shapes tell of the model; 0 and empty where they tell nothing.
struct Traits {
  std::string backbone;  // "efficientnet-b0"
  int width = 0, cells = 0, repeats = 0, max_level = 0;
  bool weighted = false;
  std::int64_t class_outputs = 0;  // classes x anchors of a cell
};
Traits traits_of(const Checkpoint& checkpoint);
std::string to_text(const Traits& traits);

}  // namespace osprey::efficientdet
