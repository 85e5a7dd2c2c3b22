// A family of architectures: recognised from a checkpoint and its config, built into a Model from them.
// One file a family: src/arch/<name>.cpp defines `Family <name>_family()`; the table is generated.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/named_tensor.h"
#include "graph/model.h"

namespace osprey {

// What the user gave.
struct ImportRequest {
  std::string source;  // path of the checkpoint, for messages
  Checkpoint checkpoint;
  std::string config;  // path of the config file, or an official name, or empty
  std::vector<std::pair<std::string, std::string>> overrides;  // --set KEY=VALUE, in the framework's spelling
  int height = 0, width = 0;                                   // a fixed input size; 0: as the config says
};

struct Family {
  std::string name;
  // How sure the family is that the request is its own: 0 no, 1 plausible, 2 certain (from names of tensors,
  // scalars and the config's keys). The surest family builds.
  int (*recognise)(const ImportRequest&);
  Model (*build)(const ImportRequest&);
  // Official models: config name and what it is, for `osprey zoo`.
  std::vector<std::pair<std::string, std::string>> (*zoo)();
};

const std::vector<Family>& families();

}  // namespace osprey
