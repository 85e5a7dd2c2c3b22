#include "arch/family/official_configs.h"

#include <algorithm>

#include "arch/family/spelling.h"
#include "core/error.h"

namespace osprey {
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

// Whether what stands before the last '/' says nothing about which config is meant.
bool is_plain_folder(std::string_view name) {
  return name.starts_with("../") || name.starts_with("./") || name.starts_with("configs/");
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

std::vector<std::pair<std::string, std::string>> OfficialConfigs::titles() const {
  std::vector<std::pair<std::string, std::string>> out;
  for (const OfficialConfig& o : table_)
    if (!o.title.empty()) out.emplace_back(o.name, o.title);
  return out;
}

const OfficialConfig* OfficialConfigs::find(std::string_view name) const {
  name = strip_extension(name);
  for (const int parts : {2, 1}) {
    const std::string_view wanted = last_parts(name, parts);
    const auto it = std::find_if(table_.begin(), table_.end(), [&](const OfficialConfig& o) {
      return (parts == 2 ? o.name : last_parts(o.name, 1)) == wanted;
    });
    if (it != table_.end()) return &*it;
    // A folder that is no official one must not be mistaken for one.
    if (parts == 2 && wanted.find('/') != std::string_view::npos && !is_plain_folder(wanted)) return nullptr;
  }
  return nullptr;
}

std::string_view OfficialConfigs::closest(std::string_view name) const {
  const std::string_view wanted = last_parts(strip_extension(name), 1);
  const auto distance = [&](const OfficialConfig& o) { return edit_distance(last_parts(o.name, 1), wanted); };
  return std::min_element(
             table_.begin(), table_.end(),
             [&](const OfficialConfig& a, const OfficialConfig& b) { return distance(a) < distance(b); })
      ->name;
}

void OfficialConfigs::apply(ConfigTree& tree, const OfficialConfig& official) const {
  if (!official.base.empty()) {
    const OfficialConfig* base = find(official.base);
    check(base != nullptr, "{} has no base {}", official.name, official.base);
    apply(tree, *base);
  }
  for (const auto& [key, value] : official.changes) set_by_path(tree, key, value);
}

ConfigTree OfficialConfigs::changes(const OfficialConfig& official) const {
  ConfigTree tree;
  tree.kind = ConfigTree::Kind::kMap;
  apply(tree, official);
  return tree;
}

std::optional<std::string> OfficialConfigs::yaml(const std::string& name) const {
  const OfficialConfig* official = find(name);
  if (!official) return std::nullopt;
  return to_yaml(changes(*official));
}

}  // namespace osprey
