// A Detectron2 config, complete and checked: the defaults, what a file or an official name changes, and what
// --set changes on top.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "formats/config_tree.h"

namespace osprey::detectron2 {

class Config {
 public:
  // Merges `changes` over the defaults. A key that Detectron2 does not have, or a value that is not
  // supported, is bad input by name.
  explicit Config(const ConfigTree& changes);

  // The value under a key, which must be of that type.
  bool flag(std::string_view key) const { return node(key).as_bool(); }
  int integer(std::string_view key) const;
  float number(std::string_view key) const { return static_cast<float>(node(key).as_double()); }
  std::string text(std::string_view key) const { return node(key).as_string(); }
  std::vector<int> integers(std::string_view key) const;
  std::vector<float> numbers(std::string_view key, std::size_t count) const;  // exactly so many
  std::vector<std::string> texts(std::string_view key) const { return node(key).as_strings(); }
  const ConfigTree& node(std::string_view key) const;

  // A count or extent: bad input below `least`, and above what any detector has, so that sums and products of
  // these never overflow.
  int at_least(int least, std::string_view key, int most = 1 << 16) const;
  // Bad input, with the key's place in its file.
  [[noreturn]] void refuse(std::string_view key, std::string_view why) const;

 private:
  ConfigTree tree_;
};

// `config` is a file on disk, or an official name ("COCO-Detection/retinanet_R_50_FPN_3x.yaml", with or
// without folder and extension). A file's `_BASE_` may be missing on disk when it is an official one.
Config load(const std::string& config, const std::vector<std::pair<std::string, std::string>>& overrides);

}  // namespace osprey::detectron2
