// Where the reference frameworks' golden numbers are, which are no part of the repository.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace osprey {

inline std::filesystem::path fixture(const std::string& name) {
  if (const char* root = std::getenv("OSPREY_FIXTURES")) return std::filesystem::path(root) / name;
  return std::filesystem::path(OSPREY_SOURCE_DIR) / ".." / "shared" / "fixtures" / name;
}

}  // namespace osprey

#define OSPREY_NEEDS_FIXTURE(path)                                                                   \
  if (!std::filesystem::exists(path)) {                                                              \
    GTEST_SKIP() << "no fixtures at " << (path).string() << "; set OSPREY_FIXTURES to their folder"; \
  }
