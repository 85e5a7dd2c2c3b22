#include "arch/maskrcnn_benchmark/config.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "core/error.h"
#include "formats/yaml.h"

namespace osprey::maskrcnn_benchmark {
namespace {

ConfigTree read_changes(const std::string& config) {
  require(!config.empty(),
          "a maskrcnn-benchmark checkpoint needs its config: give --config the YAML file of its training, or "
          "an official name such as e2e_mask_rcnn_R_50_FPN_1x.yaml");
  if (std::filesystem::exists(config)) return load_config(config);
  const OfficialConfig* official = officials().find(config);
  require(
      official != nullptr,
      "config '{}' is neither a file nor an official maskrcnn-benchmark config; the nearest of those is {}",
      config, officials().closest(config));
  return officials().changes(*official);
}

}  // namespace

Config load(const std::string& config, const std::vector<std::pair<std::string, std::string>>& overrides) {
  ConfigTree changes = read_changes(config);
  for (const auto& [key, value] : overrides) keys().set(changes, key, value);
  return {keys(), changes};
}

bool is_config(const std::string& config) {
  if (config.empty()) return false;
  if (!std::filesystem::exists(config)) return officials().find(config) != nullptr;
  // Keys that Detectron2, whose configs are the most alike, does not have.
  constexpr std::array<std::string_view, 7> kOwn{
      "MODEL.WEIGHT",  "MODEL.BACKBONE.CONV_BODY",     "MODEL.RPN_ONLY", "MODEL.RPN.USE_FPN",
      "PATHS_CATALOG", "DATALOADER.SIZE_DIVISIBILITY", "INPUT.TO_BGR255"};
  try {
    const ConfigTree tree = load_config(config);
    return std::any_of(kOwn.begin(), kOwn.end(),
                       [&](std::string_view key) { return tree.find(key) != nullptr; });
  } catch (const Error&) {
    return false;  // who reads it says what is wrong with it
  }
}

}  // namespace osprey::maskrcnn_benchmark
