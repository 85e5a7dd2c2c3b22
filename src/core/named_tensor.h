// The tensors of a checkpoint, as every container format hands them out: names, shapes, bytes on demand.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace osprey {

struct NamedTensor {
  // Where a file nests its tensors ({"model": {...}, "optimizer": {...}}) the keys above the tensor's own,
  // joined by '/': "model". Empty for a flat file.
  std::string section;
  std::string name;  // as the file has it: "backbone.bottom_up.stem.conv1.weight"
  DType dtype = DType::kF32;
  Shape shape;
  std::function<Tensor()> load;  // borrows from the mapped file where it can
  // What TensorFlow's object graph calls the variable ("conv1_bn/moving_mean"); empty without such a graph.
  std::string full_name;
};

class TfObjectGraph;  // formats/tf_object_graph.h

struct Checkpoint {
  std::string format;                // "torch zip", "torch legacy", "pickle", "npz", "npy", "safetensors",
                                     // "TensorFlow bundle"
  std::vector<NamedTensor> tensors;  // in the file's order
  // Strings and numbers beside them: "__author__" -> "Detectron2".
  std::map<std::string, std::string> scalars;
  // Of a TensorFlow checkpoint that has one, and its data; else null.
  std::shared_ptr<const TfObjectGraph> object_graph;
};

}  // namespace osprey
