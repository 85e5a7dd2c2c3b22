// A framework's config, complete and checked against a table of all its keys: the defaults, and what a file
// or an official name changes. Every key is read, known to be without meaning here, or refused by name.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/config_tree.h"

namespace osprey {

enum class Use : std::uint8_t {
  kRead,    // changes the graph or its labels
  kUnused,  // of training, evaluation, other architectures, or the machine: any value does
  kFixed,   // only the default is supported
};

struct Key {
  std::string_view name;      // "MODEL.RPN.NMS_THRESH"
  std::string_view standard;  // the default as a Python literal
  Use use = Use::kUnused;
  std::string_view reason = {};  // of a fixed one: what another value would mean
  bool map = false;              // whether its value may be a map, with keys that are the user's own
};

struct KeyTable {
  std::string_view framework;  // for messages: "Detectron2"
  std::span<const Key> keys;

  const Key* find(std::string_view name) const;  // null when there is none
  // Sets a key as `--set KEY=VALUE` does; one that does not exist is bad input, with the name most like it.
  void set(ConfigTree& changes, std::string_view key, std::string_view value) const;
  std::string_view closest(std::string_view name) const;
};

class KeyedConfig {
 public:
  // Merges `changes` over the defaults. A key that the framework does not have, or a value that is not
  // supported, is bad input by name. The table must outlive the config.
  KeyedConfig(const KeyTable& table, const ConfigTree& changes);

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
  const KeyTable* table_;
  ConfigTree tree_;
};

}  // namespace osprey
