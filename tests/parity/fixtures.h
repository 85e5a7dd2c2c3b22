// Where the reference frameworks' golden numbers are, which are no part of the repository.
#pragma once

#include "formats/fixture_files.h"

namespace osprey {

inline fs::path fixture(const std::string& name) { return fixtures() / name; }

// The repository, for the model it brings; a program that was carried to another machine is told.
inline fs::path source_folder() {
  const char* told = std::getenv("OSPREY_SOURCE");
  return told ? told : OSPREY_SOURCE_DIR;
}

}  // namespace osprey

#define OSPREY_NEEDS_FIXTURE(path)                                                                   \
  if (!std::filesystem::exists(path)) {                                                              \
    GTEST_SKIP() << "no fixtures at " << (path).string() << "; set OSPREY_FIXTURES to their folder"; \
  }
