#include "formats/config_reader.h"

#include "core/error.h"
#include "formats/source.h"

namespace osprey {
namespace {

// Takes the first part off a dotted path.
std::string_view take_part(std::string_view& dotted) {
  const auto dot = dotted.find('.');
  const std::string_view part = dotted.substr(0, dot);
  dotted = dot == std::string_view::npos ? std::string_view{} : dotted.substr(dot + 1);
  return part;
}

}  // namespace

const ConfigTree* ConfigReader::find(const ConfigTree& from, std::string_view dotted) {
  const ConfigTree* node = &from;
  while (node != nullptr && !dotted.empty()) {
    node = node->find(take_part(dotted));
    if (node != nullptr) asked_.insert(node);
  }
  return node;
}

const ConfigTree& ConfigReader::at(const ConfigTree& from, std::string_view dotted) {
  const ConfigTree* found = find(from, dotted);
  if (found == nullptr) bad_input("{}: has no {}", from.where(), printable(dotted));
  return *found;
}

std::vector<const ConfigTree*> ConfigReader::repeated(const ConfigTree& from, std::string_view dotted) {
  const ConfigTree* node = find(from, dotted);
  if (node == nullptr) return {};
  if (!node->is_list()) return {node};
  std::vector<const ConfigTree*> out;
  for (const ConfigTree& item : node->items) {
    asked_.insert(&item);
    out.push_back(&item);
  }
  return out;
}

void ConfigReader::ignore(std::string_view dotted) {
  if (const ConfigTree* node = find(dotted)) ignored_.insert(node);
}

std::vector<const ConfigTree*> ConfigReader::unread() const {
  std::vector<const ConfigTree*> out;
  collect_unread(root_, out);
  return out;
}

void ConfigReader::collect_unread(const ConfigTree& node, std::vector<const ConfigTree*>& to) const {
  if (ignored_.contains(&node)) return;
  for (const ConfigTree& item : node.items) {
    const bool scalar_of_list = node.is_list() && (item.is_scalar() || item.is_null());
    if (scalar_of_list) continue;
    // A list's maps are reached by their keys, so they need not be asked for themselves.
    if (asked_.contains(&item) || node.is_list()) {
      collect_unread(item, to);
    } else {
      to.push_back(&item);
    }
  }
}

}  // namespace osprey
