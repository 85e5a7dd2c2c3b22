// EfficientDet's hyper-parameters (hparams_config.py of github.com/google/automl, efficientdet): every key,
// its default, and what it means here; and the official members, each of which changes a few.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "arch/family/keyed_config.h"

namespace osprey::efficientdet {

const KeyTable& keys();

struct Member {
  std::string_view name;                                               // "efficientdet-d0"
  std::string_view title;                                              // for `osprey zoo`
  std::vector<std::pair<std::string_view, std::string_view>> changes;  // key, value as a literal
};

const std::vector<Member>& members();
// Null when there is none. The name may end in ".yaml".
const Member* find_member(std::string_view name);

ConfigTree changes_of(const Member& member);

}  // namespace osprey::efficientdet
