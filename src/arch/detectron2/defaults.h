// Detectron2's complete config: every key, its default, and what it means here.
#pragma once

#include <span>
#include <string_view>

namespace osprey::detectron2 {

enum class Use {
  kRead,    // changes the graph or its labels
  kUnused,  // of training, evaluation, other architectures, or the machine: any value does
  kFixed,   // only the default is supported
};

struct Key {
  std::string_view name;      // "MODEL.RPN.NMS_THRESH"
  std::string_view standard;  // the default as a Python literal
  Use use = Use::kUnused;
  std::string_view reason = {};  // of a fixed one: what another value would mean
};

std::span<const Key> keys();

// The key of that name, or null.
const Key* find_key(std::string_view name);
// The name that is most like this one, for messages.
std::string_view closest_key(std::string_view name);

}  // namespace osprey::detectron2
