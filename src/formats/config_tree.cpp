#include "formats/config_tree.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <unordered_map>
#include <utility>

#include "core/error.h"
#include "formats/python_literal.h"
#include "formats/source.h"

namespace osprey {
namespace {

constexpr std::size_t kMaxPaths = std::size_t{32} << 20;

// The first part of a dotted path, and the rest.
std::pair<std::string_view, std::string_view> split(std::string_view dotted) {
  const auto dot = dotted.find('.');
  if (dot == std::string_view::npos) return {dotted, {}};
  return {dotted.substr(0, dot), dotted.substr(dot + 1)};
}

std::optional<std::size_t> index_of(std::string_view text, std::size_t size) {
  std::size_t index = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
  if (error != std::errc{} || end != text.data() + text.size() || index >= size) return std::nullopt;
  return index;
}

const ConfigTree* step(const ConfigTree& node, std::string_view part) {
  if (!node.is_list()) return node.child(part);
  const auto index = index_of(part, node.items.size());
  return index ? &node.items[*index] : nullptr;
}

template <class Convert>
auto each(const ConfigTree& node, std::string_view expected, Convert convert) {
  if (!node.is_list()) node.refuse(expected);
  std::vector<decltype(convert(node))> out;
  for (const auto& item : node.items) out.push_back(convert(item));
  return out;
}

std::string show(const ConfigTree& node) {
  switch (node.kind) {
    case ConfigTree::Kind::kNull:
      return "null";
    case ConfigTree::Kind::kScalar:
      return '"' + printable(node.text) + '"';
    case ConfigTree::Kind::kList:
      return fmt::format("a list of {}", node.items.size());
    case ConfigTree::Kind::kMap:
      return fmt::format("a map of {} keys", node.items.size());
  }
  return {};
}

void assign(ConfigTree& node, const std::string& path, std::size_t& spent) {
  spent += path.size();
  require(spent <= kMaxPaths, "more than {} bytes of keys", kMaxPaths);
  node.path = path;
  for (std::size_t i = 0; i < node.items.size(); ++i) {
    ConfigTree& item = node.items[i];
    const std::string name = node.is_map() ? item.key : std::to_string(i);
    assign(item, path.empty() ? name : fmt::format("{}.{}", path, name), spent);
  }
}

}  // namespace

const ConfigTree* ConfigTree::child(std::string_view name) const {
  if (!is_map()) return nullptr;
  const auto found =
      std::find_if(items.begin(), items.end(), [&](const ConfigTree& item) { return item.key == name; });
  return found == items.end() ? nullptr : &*found;
}

ConfigTree* ConfigTree::child(std::string_view name) {
  return const_cast<ConfigTree*>(std::as_const(*this).child(name));
}

const ConfigTree* ConfigTree::find(std::string_view dotted) const {
  const ConfigTree* node = this;
  while (node != nullptr && !dotted.empty()) {
    const auto [part, rest] = split(dotted);
    node = step(*node, part);
    dotted = rest;
  }
  return node;
}

const ConfigTree& ConfigTree::at(std::string_view dotted) const {
  const ConfigTree* found = find(dotted);
  if (found == nullptr) bad_input("{}: has no {}", where(), printable(dotted));
  return *found;
}

std::int64_t ConfigTree::as_int() const {
  const auto value = is_scalar() && !quoted ? parse_int(text) : std::nullopt;
  if (!value) refuse("an integer");
  return *value;
}

double ConfigTree::as_double() const {
  const auto value = is_scalar() && !quoted ? parse_double(text) : std::nullopt;
  if (!value) refuse("a number");
  return *value;
}

bool ConfigTree::as_bool() const {
  const auto value = is_scalar() && !quoted ? parse_bool(text) : std::nullopt;
  if (!value) refuse("true or false");
  return *value;
}

std::string ConfigTree::as_string() const {
  if (!is_scalar()) refuse("text");
  return text;
}

std::vector<std::int64_t> ConfigTree::as_ints() const {
  return each(*this, "a list of integers", [](const ConfigTree& item) { return item.as_int(); });
}

std::vector<double> ConfigTree::as_doubles() const {
  return each(*this, "a list of numbers", [](const ConfigTree& item) { return item.as_double(); });
}

std::vector<std::string> ConfigTree::as_strings() const {
  return each(*this, "a list of texts", [](const ConfigTree& item) { return item.as_string(); });
}

std::string ConfigTree::where() const {
  std::string out = file ? *file : "config";
  if (line > 0) out += fmt::format(":{}", line);
  if (!path.empty()) out += ": " + printable(path, 200);
  return out;
}

void ConfigTree::refuse(std::string_view expected) const {
  bad_input("{}: expected {}, got {}", where(), expected, show(*this));
}

void merge(ConfigTree& base, const ConfigTree& over) {
  if (!base.is_map() || !over.is_map()) {
    const std::string key = base.key;
    base = over;
    base.key = key;
    return;
  }
  if (!over.tag.empty()) base.tag = over.tag;
  base.file = over.file;
  base.line = over.line;
  std::unordered_map<std::string, std::size_t> index;
  for (std::size_t i = 0; i < base.items.size(); ++i) index.emplace(base.items[i].key, i);
  for (const auto& item : over.items) {
    const auto existing = index.find(item.key);
    if (existing != index.end()) {
      merge(base.items[existing->second], item);
    } else {
      base.items.push_back(item);
    }
  }
}

void set_by_path(ConfigTree& tree, std::string_view dotted, std::string_view value) {
  require(!dotted.empty(), "an empty path of keys for the value {}", printable(value));
  ConfigTree decoded = decode_literal(value);
  ConfigTree* node = &tree;
  for (std::string_view rest = dotted; !rest.empty();) {
    const auto [part, after] = split(rest);
    rest = after;
    require(!part.empty(), "{}: is no path of keys joined by dots", printable(dotted));
    if (node->is_null()) node->kind = ConfigTree::Kind::kMap;
    auto* next = const_cast<ConfigTree*>(step(*node, part));
    if (next == nullptr) {
      require(node->is_map(), "{}: {} has no {}", printable(dotted), node->where(), printable(part));
      next = &node->items.emplace_back();
      next->key = part;
    }
    node = next;
  }
  decoded.key = node->key;
  *node = std::move(decoded);
  assign_paths(*node, std::string(dotted));
}

ConfigTree decode_literal(std::string_view text) {
  if (auto literal = parse_python_literal(text)) return std::move(*literal);
  ConfigTree out;
  out.kind = ConfigTree::Kind::kScalar;
  out.text = text;
  return out;
}

void assign_paths(ConfigTree& tree, const std::string& path) {
  std::size_t spent = 0;
  assign(tree, path, spent);
}

}  // namespace osprey
