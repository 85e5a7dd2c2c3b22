#include "arch/detectron2/config.h"

#include <filesystem>

#include "arch/detectron2/comprehension.h"
#include "arch/detectron2/defaults.h"
#include "arch/detectron2/zoo.h"
#include "core/error.h"
#include "formats/yaml.h"

namespace osprey::detectron2 {
namespace {

ConfigTree read_changes(const std::string& config) {
  require(!config.empty(),
          "a Detectron2 checkpoint needs its config: give --config the config.yaml of its training, or an "
          "official name such as COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml");
  require(!config.ends_with(".py"), "{}: configs in Python are code, which is never run; use the YAML form",
          config);
  if (std::filesystem::exists(config))
    return load_config(config, [](const std::string& base) { return officials().yaml(base); });
  const OfficialConfig* official = officials().find(config);
  require(official != nullptr,
          "config '{}' is neither a file nor an official Detectron2 config; the nearest of those is {}",
          config, officials().closest(config));
  return officials().changes(*official);
}

}  // namespace

Config load(const std::string& config, const std::vector<std::pair<std::string, std::string>>& overrides) {
  ConfigTree changes = read_changes(config);
  expand_comprehensions(changes);
  for (const auto& [key, value] : overrides) keys().set(changes, key, value);
  return {keys(), changes};
}

}  // namespace osprey::detectron2
