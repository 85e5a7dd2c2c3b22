// A Detectron2 config: the defaults, what a file or an official name changes, and what --set changes on top.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "arch/family/keyed_config.h"

namespace osprey::detectron2 {

using Config = KeyedConfig;

// `config` is a file on disk, or an official name ("COCO-Detection/retinanet_R_50_FPN_3x.yaml", with or
// without folder and extension). A file's `_BASE_` may be missing on disk when it is an official one.
Config load(const std::string& config, const std::vector<std::pair<std::string, std::string>>& overrides);

}  // namespace osprey::detectron2
