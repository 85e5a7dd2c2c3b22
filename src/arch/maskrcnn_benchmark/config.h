// A maskrcnn-benchmark config: the defaults, what a file or an official name changes, and what the command
// line changes on top.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "arch/family/keyed_config.h"
#include "arch/family/official_configs.h"

namespace osprey::maskrcnn_benchmark {

using Config = KeyedConfig;

// Every key, its default, and what it means here.
const KeyTable& keys();

const OfficialConfigs& officials();

// `config` is a file on disk, or an official name ("caffe2/e2e_mask_rcnn_R_50_FPN_1x_caffe2.yaml", with or
// without "configs/", folder and extension).
Config load(const std::string& config, const std::vector<std::pair<std::string, std::string>>& overrides);

// Whether it is one of ours: an official name, or a file with keys that no other framework's config has.
bool is_config(const std::string& config);

}  // namespace osprey::maskrcnn_benchmark
