#include "arch/detectron2/config.h"

#include <filesystem>
#include <limits>

#include "arch/detectron2/comprehension.h"
#include "arch/detectron2/defaults.h"
#include "arch/detectron2/zoo.h"
#include "core/error.h"
#include "formats/yaml.h"

namespace osprey::detectron2 {
namespace {

ConfigTree defaults() {
  ConfigTree tree;
  tree.kind = ConfigTree::Kind::kMap;
  for (const Key& key : keys()) set_by_path(tree, key.name, key.standard);
  return tree;
}

// Every leaf must be a key that exists. Maps are only what lies above keys.
void check_keys(const ConfigTree& node) {
  if (node.is_map()) {
    for (const ConfigTree& item : node.items) check_keys(item);
  } else if (!find_key(node.path)) {
    bad_input("{}: Detectron2 has no such key; did you mean {}?", node.where(), closest_key(node.path));
  }
}

// Equal as the default's own kind of value: numbers by value, whatever their spelling.
bool same(const ConfigTree& node, const ConfigTree& standard) {
  if (node.kind != standard.kind || node.items.size() != standard.items.size()) return false;
  if (node.is_scalar()) {
    if (standard.quoted) return node.text == standard.text;
    if (standard.text == "True" || standard.text == "False") return node.as_bool() == standard.as_bool();
    return node.as_double() == standard.as_double();
  }
  for (std::size_t i = 0; i < node.items.size(); ++i)
    if (!same(node.items[i], standard.items[i])) return false;
  return true;
}

std::string show(const ConfigTree& node) {
  if (node.is_scalar()) return node.text;
  std::string text = "[";
  for (const ConfigTree& item : node.items) text += (text.size() > 1 ? ", " : "") + show(item);
  return text + "]";
}

ConfigTree read_changes(const std::string& config) {
  require(!config.empty(),
          "a Detectron2 checkpoint needs its config: give --config the config.yaml of its training, or an "
          "official name such as COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml");
  require(!config.ends_with(".py"), "{}: configs in Python are code, which is never run; use the YAML form",
          config);
  if (std::filesystem::exists(config)) return load_config(config, official_yaml);
  const Official* official = find_official(config);
  require(official != nullptr,
          "config '{}' is neither a file nor an official Detectron2 config; the nearest of those is {}",
          config, closest_official(config));
  return official_changes(*official);
}

}  // namespace

Config::Config(const ConfigTree& changes) : tree_(defaults()) {
  check_keys(changes);
  merge(tree_, changes);
  for (const Key& key : keys()) {
    const ConfigTree& value = node(key.name);
    if (value.is_map()) value.refuse("a value like its default " + std::string(key.standard));
    if (key.use == Use::kFixed && !same(value, decode_literal(key.standard)))
      bad_input("{}: {} is not supported (only {}): {}", value.where(), show(value), key.standard,
                key.reason);
  }
}

const ConfigTree& Config::node(std::string_view key) const {
  check(find_key(key) != nullptr, "detectron2: no key {}", key);
  return tree_.at(key);
}

int Config::integer(std::string_view key) const {
  const std::int64_t value = node(key).as_int();
  if (value < std::numeric_limits<int>::min() || value > std::numeric_limits<int>::max())
    node(key).refuse("an integer of 32 bits");
  return static_cast<int>(value);
}

std::vector<int> Config::integers(std::string_view key) const {
  std::vector<int> out;
  for (const std::int64_t value : node(key).as_ints()) {
    if (value < std::numeric_limits<int>::min() || value > std::numeric_limits<int>::max())
      node(key).refuse("integers of 32 bits");
    out.push_back(static_cast<int>(value));
  }
  return out;
}

std::vector<float> Config::numbers(std::string_view key, std::size_t count) const {
  const auto values = node(key).as_doubles();
  if (values.size() != count) node(key).refuse(fmt::format("{} numbers", count));
  return {values.begin(), values.end()};
}

int Config::at_least(int least, std::string_view key, int most) const {
  const int value = integer(key);
  if (value < least || value > most) node(key).refuse(fmt::format("a number from {} to {}", least, most));
  return value;
}

void Config::refuse(std::string_view key, std::string_view why) const {
  const ConfigTree& value = node(key);
  bad_input("{}: {} is not supported: {}", value.where(), show(value), why);
}

Config load(const std::string& config, const std::vector<std::pair<std::string, std::string>>& overrides) {
  ConfigTree changes = read_changes(config);
  expand_comprehensions(changes);
  for (const auto& [key, value] : overrides) {
    require(find_key(key) != nullptr, "--set {}: Detectron2 has no such key; did you mean {}?", key,
            closest_key(key));
    set_by_path(changes, key, value);
  }
  return Config(changes);
}

}  // namespace osprey::detectron2
