// Detectron2's official configs, by name: what each changes of the defaults, as far as inference goes.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/config_tree.h"

namespace osprey::detectron2 {

using Changes = std::vector<std::pair<std::string_view, std::string_view>>;  // key, value as a literal

struct Official {
  std::string_view name;   // "COCO-Detection/retinanet_R_50_FPN_3x"
  std::string_view base;   // another one's name, or empty
  std::string_view title;  // "RetinaNet R50-FPN 3x"; empty for what is only a base, or is not supported
  Changes changes;
};

const std::vector<Official>& officials();

// "COCO-Detection/retinanet_R_50_FPN_3x.yaml", "../Base-RCNN-FPN.yaml", "retinanet_R_50_FPN_3x": folder and
// extension may be absent. Where several folders hold the name, the first of the table is meant (COCO's
// folders lead it). Null when there is none.
const Official* find_official(std::string_view name);
std::string_view closest_official(std::string_view name);

// With its bases, over the defaults.
ConfigTree official_changes(const Official& official);
// The same as the text of a file without bases, for configs whose `_BASE_` it is.
std::optional<std::string> official_yaml(const std::string& name);

}  // namespace osprey::detectron2
