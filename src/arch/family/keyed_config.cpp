#include "arch/family/keyed_config.h"

#include <algorithm>
#include <limits>

#include "arch/family/spelling.h"
#include "core/error.h"

namespace osprey {
namespace {

ConfigTree defaults(const KeyTable& table) {
  ConfigTree tree;
  tree.kind = ConfigTree::Kind::kMap;
  for (const Key& key : table.keys) set_by_path(tree, key.name, key.standard);
  return tree;
}

// Every leaf must be a key that exists. Maps are what lies above keys, or values of keys that may be maps.
void check_keys(const KeyTable& table, const ConfigTree& node) {
  const Key* key = table.find(node.path);
  if (key && (key->map || !node.is_map())) return;
  if (!node.is_map())
    bad_input("{}: {} has no such key; did you mean {}?", node.where(), table.framework,
              table.closest(node.path));
  for (const ConfigTree& item : node.items) check_keys(table, item);
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
  if (node.is_null()) return "null";
  if (node.is_scalar()) return node.text;
  std::string text = "[";
  for (const ConfigTree& item : node.items) text += (text.size() > 1 ? ", " : "") + show(item);
  return text + "]";
}

}  // namespace

const Key* KeyTable::find(std::string_view name) const {
  const auto it = std::find_if(keys.begin(), keys.end(), [&](const Key& k) { return k.name == name; });
  return it == keys.end() ? nullptr : &*it;
}

void KeyTable::set(ConfigTree& changes, std::string_view key, std::string_view value) const {
  require(find(key) != nullptr, "--set {}: {} has no such key; did you mean {}?", key, framework,
          closest(key));
  set_by_path(changes, key, value);
}

std::string_view KeyTable::closest(std::string_view name) const {
  return std::min_element(keys.begin(), keys.end(),
                          [&](const Key& a, const Key& b) {
                            return edit_distance(a.name, name) < edit_distance(b.name, name);
                          })
      ->name;
}

KeyedConfig::KeyedConfig(const KeyTable& table, const ConfigTree& changes)
    : table_(&table), tree_(defaults(table)) {
  check_keys(table, changes);
  merge(tree_, changes);
  for (const Key& key : table.keys) {
    const ConfigTree& value = node(key.name);
    if (value.is_map() && !key.map) value.refuse("a value like its default " + std::string(key.standard));
    if (key.use == Use::kFixed && !same(value, decode_literal(key.standard)))
      bad_input("{}: {} is not supported (only {}): {}", value.where(), show(value), key.standard,
                key.reason);
  }
}

const ConfigTree& KeyedConfig::node(std::string_view key) const {
  check(table_->find(key) != nullptr, "{}: no key {}", table_->framework, key);
  return tree_.at(key);
}

int KeyedConfig::integer(std::string_view key) const {
  const std::int64_t value = node(key).as_int();
  if (value < std::numeric_limits<int>::min() || value > std::numeric_limits<int>::max())
    node(key).refuse("an integer of 32 bits");
  return static_cast<int>(value);
}

std::vector<int> KeyedConfig::integers(std::string_view key) const {
  std::vector<int> out;
  for (const std::int64_t value : node(key).as_ints()) {
    if (value < std::numeric_limits<int>::min() || value > std::numeric_limits<int>::max())
      node(key).refuse("integers of 32 bits");
    out.push_back(static_cast<int>(value));
  }
  return out;
}

std::vector<float> KeyedConfig::numbers(std::string_view key, std::size_t count) const {
  const auto values = node(key).as_doubles();
  if (values.size() != count) node(key).refuse(fmt::format("{} numbers", count));
  return {values.begin(), values.end()};
}

int KeyedConfig::at_least(int least, std::string_view key, int most) const {
  const int value = integer(key);
  if (value < least || value > most) node(key).refuse(fmt::format("a number from {} to {}", least, most));
  return value;
}

void KeyedConfig::refuse(std::string_view key, std::string_view why) const {
  const ConfigTree& value = node(key);
  bad_input("{}: {} is not supported: {}", value.where(), show(value), why);
}

}  // namespace osprey
