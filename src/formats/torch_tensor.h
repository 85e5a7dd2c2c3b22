// Tensors in torch's pickles: a call of _rebuild_tensor_v2 and its kin, with a persistent id that names a
// storage. The zip and the legacy container differ only in where the storage's bytes are.
#pragma once

#include <optional>
#include <string>

#include "formats/layout.h"
#include "formats/pickle_value.h"

namespace osprey {

struct TorchStorage {
  std::string key;
  std::optional<DType> dtype;  // none: a type that is not read; `type` names it
  std::string type;            // "torch.FloatStorage"
  std::uint64_t elements = 0;
  // Legacy files before torch 0.4 could store a part of another storage.
  std::uint64_t view_offset = 0;
};

struct TorchTensor {
  TorchStorage storage;
  Layout layout;       // validated against storage.elements; empty where `unread` is set
  std::string unread;  // an element type that is not read, by name
};

// The storage of a persistent id ("storage", type, key, location, elements). Bad input when it is no such
// tuple.
TorchStorage torch_storage(const pickle::Value& persistent);

// None when the value is no tensor; bad input when it is a broken one.
std::optional<TorchTensor> torch_tensor(const pickle::Value& value);

}  // namespace osprey
