// A framework's official configs, by name: what each changes of the defaults, as far as inference goes.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/config_tree.h"

namespace osprey {

using ConfigChanges = std::vector<std::pair<std::string_view, std::string_view>>;  // key, value as a literal

inline ConfigChanges operator+(ConfigChanges a, const ConfigChanges& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

struct OfficialConfig {
  std::string_view name;   // "COCO-Detection/retinanet_R_50_FPN_3x"
  std::string_view base;   // another one's name, or empty
  std::string_view title;  // "RetinaNet R50-FPN 3x"; empty for what is only a base, or is not supported
  ConfigChanges changes;
};

class OfficialConfigs {
 public:
  explicit OfficialConfigs(std::vector<OfficialConfig> table) : table_(std::move(table)) {}

  const std::vector<OfficialConfig>& all() const { return table_; }
  // Name and title of those that have one.
  std::vector<std::pair<std::string, std::string>> titles() const;

  // "COCO-Detection/retinanet_R_50_FPN_3x.yaml", "../Base-RCNN-FPN.yaml", "retinanet_R_50_FPN_3x": folder and
  // extension may be absent, and so may "configs/" in front. Where several folders hold the name, the first
  // of the table is meant. Null when there is none.
  const OfficialConfig* find(std::string_view name) const;
  std::string_view closest(std::string_view name) const;

  // With its bases, over the defaults.
  ConfigTree changes(const OfficialConfig& official) const;
  // The same as the text of a file without bases, for configs whose `_BASE_` it is.
  std::optional<std::string> yaml(const std::string& name) const;

 private:
  void apply(ConfigTree& tree, const OfficialConfig& official) const;

  std::vector<OfficialConfig> table_;
};

}  // namespace osprey
