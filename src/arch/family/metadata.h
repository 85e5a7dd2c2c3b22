// What a model says of where it comes from.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "arch/family.h"

namespace osprey {

// The checkpoint, the config and each override. Names of files only: an engine's bytes must not tell where it
// was built.
std::map<std::string, std::string> metadata_of(const ImportRequest& request, std::string_view config);
inline std::map<std::string, std::string> metadata_of(const ImportRequest& request) {
  return metadata_of(request, request.config);
}

}  // namespace osprey
