// TensorFlow's numbering of element types and its shapes, as every file of its has them
// (tensorflow/core/framework/types.proto, tensor_shape.proto).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/tensor.h"

namespace osprey {

inline constexpr std::uint64_t kTfString = 7;

// None for types that tensors have not here.
std::optional<DType> dtype_of_tf(std::uint64_t type);

// "float", "string"; "type 42" for an unknown one.
std::string tf_type_name(std::uint64_t type);

struct TfShape {
  bool known_rank = true;
  Shape extents;  // -1: unknown
};

// A serialised TensorShapeProto of at most 64 extents. Throws Error(kBadInput).
TfShape read_tf_shape(Bytes message);

// "[1, ?, ?, 3]", "[?...]" of unknown rank
std::string to_string(const TfShape& shape);

}  // namespace osprey
