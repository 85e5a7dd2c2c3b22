#include "arch/detectron2/zoo.h"

#include <algorithm>

#include "arch/family/spelling.h"
#include "core/error.h"

namespace osprey::detectron2 {
namespace {

std::string_view strip_extension(std::string_view name) {
  for (const std::string_view extension : {".yaml", ".yml"})
    if (name.ends_with(extension)) name.remove_suffix(extension.size());
  return name;
}

// "a/b/c" -> "c" with one part, "b/c" with two.
std::string_view last_parts(std::string_view name, int parts) {
  auto cut = name.size();
  for (; parts > 0 && cut != std::string_view::npos; --parts)
    cut = cut == 0 ? std::string_view::npos : name.rfind('/', cut - 1);
  return cut == std::string_view::npos ? name : name.substr(cut + 1);
}

void apply(ConfigTree& tree, const Official& official) {
  if (!official.base.empty()) {
    const Official* base = find_official(official.base);
    check(base != nullptr, "detectron2: {} has no base {}", official.name, official.base);
    apply(tree, *base);
  }
  for (const auto& [key, value] : official.changes) set_by_path(tree, key, value);
}

// YAML's flow style.
std::string to_yaml(const ConfigTree& node) {
  if (node.is_null()) return "null";
  if (node.is_scalar()) return node.quoted ? "'" + node.text + "'" : node.text;
  std::string text;
  for (const ConfigTree& item : node.items)
    text += (text.empty() ? "" : ", ") + (node.is_map() ? item.key + ": " : "") + to_yaml(item);
  return node.is_map() ? "{" + text + "}" : "[" + text + "]";
}

}  // namespace

const Official* find_official(std::string_view name) {
  name = strip_extension(name);
  for (const int parts : {2, 1}) {
    const std::string_view wanted = last_parts(name, parts);
    const auto it = std::find_if(officials().begin(), officials().end(), [&](const Official& o) {
      return (parts == 2 ? o.name : last_parts(o.name, 1)) == wanted;
    });
    if (it != officials().end()) return &*it;
    // A folder that is no official one must not be mistaken for one.
    if (parts == 2 && wanted.find('/') != std::string_view::npos && !wanted.starts_with("../") &&
        !wanted.starts_with("./"))
      return nullptr;
  }
  return nullptr;
}

std::string_view closest_official(std::string_view name) {
  const std::string_view wanted = last_parts(strip_extension(name), 1);
  const auto distance = [&](const Official& o) { return edit_distance(last_parts(o.name, 1), wanted); };
  return std::min_element(officials().begin(), officials().end(),
                          [&](const Official& a, const Official& b) { return distance(a) < distance(b); })
      ->name;
}

ConfigTree official_changes(const Official& official) {
  ConfigTree tree;
  tree.kind = ConfigTree::Kind::kMap;
  apply(tree, official);
  return tree;
}

std::optional<std::string> official_yaml(const std::string& name) {
  const Official* official = find_official(name);
  if (!official) return std::nullopt;
  return to_yaml(official_changes(*official));
}

}  // namespace osprey::detectron2
