#include "arch/family/metadata.h"

#include <filesystem>

namespace osprey {

std::map<std::string, std::string> metadata_of(const ImportRequest& request, std::string_view config) {
  const auto file_name = [](std::string_view path) {
    return std::filesystem::path(path).filename().string();
  };
  std::map<std::string, std::string> out{{"checkpoint", file_name(request.source)},
                                         {"config", file_name(config)}};
  for (const auto& [key, value] : request.overrides) out["set " + key] = value;
  return out;
}

}  // namespace osprey
