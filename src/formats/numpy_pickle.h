// Pickled numpy arrays (.pkl of detectron2 and Detectron, .pdparams of Paddle): any protocol, either Python.
#pragma once

#include "formats/collect.h"

namespace osprey {

// The checkpoint of a pickle whose tensors are numpy arrays. Throws Error(kBadInput).
Checkpoint read_numpy_pickle(const Source& source);

// A numpy array among pickled values, as a leaf; none for anything else. `source` keeps its bytes alive.
std::optional<Leaf> numpy_leaf(const pickle::Value& value, const Source& source);

// numpy's name of an element type without or with its byte order, "<f4", "|b1", "f8", and whether the order
// is big-endian. Without dtype when it is one that we do not have ("u4", "c8", "O").
struct NumpyType {
  std::optional<DType> dtype;
  std::size_t size = 0;  // bytes of an element, of known types
  bool swapped = false;
};
NumpyType numpy_type(std::string_view code);

}  // namespace osprey
