// Checkpoints and SavedModels of TensorFlow's Object Detection API (TF2), under one naming: a variable's path
// through the objects of the detection model, as the keys of `ckpt-0` have it but for their suffix, where
// layers of Keras' models have their own names instead of numbers:
//   model/_feature_extractor/classification_backbone/conv1_bn/gamma
//   (model/_feature_extractor/classification_backbone/layer_with_weights-1/gamma/.ATTRIBUTES/VARIABLE_VALUE)
// A SavedModel's keys are other paths to the same variables, some by position in a list; they are mapped
// through its object graph (formats/tf_object_graph.h).
#pragma once

#include <vector>

#include "core/named_tensor.h"

namespace osprey::tfod {

// Whether the tensors are those of a detection model of this framework.
bool is_tfod(const Checkpoint& checkpoint);

// The model's tensors under those names, in the layouts of our ops (arch/family/tf_weights.h). What only
// training needs (optimizers, counters) is left out.
std::vector<NamedTensor> model_tensors(const Checkpoint& checkpoint);

}  // namespace osprey::tfod
