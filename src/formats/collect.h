// From a tree of pickled values to a Checkpoint: nested dicts and lists become sections, leaves become
// tensors and scalars. What a tensor looks like is the container's business, given as a function.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "core/named_tensor.h"
#include "formats/pickle_value.h"
#include "formats/source.h"

namespace osprey {

// One leaf that a reader recognised. Without a load function, `note` says why it is not read ("numpy type
// u4").
struct Leaf {
  DType dtype = DType::kF32;
  Shape shape;
  std::function<Tensor()> load;
  std::string note;
};

// None when the value is no tensor; bad input when it is a broken one.
using ReadLeaf = std::function<std::optional<Leaf>(const pickle::Value&)>;

// Limits: 64 levels, 200,000 tensors, 4 KiB a key, 64 MiB of names, a million steps (a cyclic or densely
// shared graph ends there). Scalars are taken from dicts, not from lists; what is neither tensor, number nor
// text is passed over. Tensors with the same section and name are refused. Errors of load() name the file and
// the tensor.
Checkpoint collect(std::string format, const pickle::Value& root, const Source& source, const ReadLeaf& read);

// A checkpoint of tensors listed by their containers, with load() naming the file and the tensor in errors.
void add_tensor(Checkpoint& to, const Source& source, NamedTensor tensor);

}  // namespace osprey
