// A framework's config as a tree: null, scalars, lists and ordered maps, each knowing where it was written.
//
// Scalars keep their text; what it means is decided by who asks. The rules are PyYAML's (YAML 1.1: `yes` is a
// bool, `010` is eight, `1e-4` without a dot is text) widened by those of yacs, which evaluates text as a
// Python literal: "1e-4" is a number and "(60000, 80000)" a list. Nothing is ever run: a tag such as
// `!!python/object/apply:eval` is kept as text.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace osprey {

struct ConfigTree {
  enum class Kind : std::uint8_t { kNull, kScalar, kList, kMap };

  Kind kind = Kind::kNull;
  bool quoted = false;            // of a scalar: it can only be text
  std::string text;               // of a scalar
  std::string tag;                // "!PiecewiseDecay", "!!python/tuple"; empty when there is none
  std::vector<ConfigTree> items;  // of a list or map, in the file's order
  std::string key;                // of an item of a map

  // For messages.
  std::shared_ptr<const std::string> file;
  int line = 0;      // from 1; 0 when it came from no file
  std::string path;  // "MODEL.ROI_HEADS.NUM_CLASSES"

  bool is_null() const { return kind == Kind::kNull; }
  bool is_scalar() const { return kind == Kind::kScalar; }
  bool is_list() const { return kind == Kind::kList; }
  bool is_map() const { return kind == Kind::kMap; }

  // The item of a map under exactly this key, or null; also null when this is no map.
  const ConfigTree* child(std::string_view name) const;
  ConfigTree* child(std::string_view name);

  // The node under keys joined by '.', list items by their index; null when absent. at() refuses that by
  // name.
  const ConfigTree* find(std::string_view dotted) const;
  const ConfigTree& at(std::string_view dotted) const;

  // The value, or Error(kBadInput): "cfg.yaml:12: MODEL.DEPTH: expected an integer, got "fifty"".
  std::int64_t as_int() const;
  double as_double() const;
  bool as_bool() const;
  std::string as_string() const;
  std::vector<std::int64_t> as_ints() const;
  std::vector<double> as_doubles() const;
  std::vector<std::string> as_strings() const;

  // "cfg.yaml:12: MODEL.DEPTH"
  std::string where() const;
  // Throws Error(kBadInput): where, what was expected, and what is there.
  [[noreturn]] void refuse(std::string_view expected) const;
};

// Keys of `over` win; maps are merged key by key, anything else is replaced whole. New keys come last.
void merge(ConfigTree& base, const ConfigTree& over);

// Sets the value at a dotted path as `KEY VALUE` on yacs's command line does: the text is a Python literal if
// it is one, else a string. Missing maps on the way are made; a number steps into a list that is there.
void set_by_path(ConfigTree& tree, std::string_view dotted, std::string_view value);

// The node that yacs makes of a text: what the literal says, or a plain scalar of the text.
ConfigTree decode_literal(std::string_view text);

// Writes `path` into the tree below `path`; bad input when that takes more than 32 MiB.
void assign_paths(ConfigTree& tree, const std::string& path);

}  // namespace osprey
