#include "arch/tfod/zoo.h"

#include <algorithm>

#include "arch/family/spelling.h"

namespace osprey::tfod {
namespace {

std::string_view without_folder_and_extension(std::string_view name) {
  while (name.ends_with('/')) name.remove_suffix(1);
  name = name.substr(name.rfind('/') + 1);
  for (const std::string_view extension : {".tar.gz", ".config"})
    if (name.ends_with(extension)) name.remove_suffix(extension.size());
  return name;
}

}  // namespace

const Official* find_official(std::string_view name) {
  const std::string_view wanted = without_folder_and_extension(name);
  const auto it = std::find_if(officials().begin(), officials().end(),
                               [&](const Official& o) { return o.name == wanted; });
  return it == officials().end() ? nullptr : &*it;
}

std::string_view closest_official(std::string_view name) {
  const std::string_view wanted = without_folder_and_extension(name);
  const auto distance = [&](const Official& o) { return edit_distance(o.name, wanted); };
  return std::min_element(officials().begin(), officials().end(),
                          [&](const Official& a, const Official& b) { return distance(a) < distance(b); })
      ->name;
}

}  // namespace osprey::tfod
