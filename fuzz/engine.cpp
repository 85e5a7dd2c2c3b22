// fuzz-libs: osprey_engine
// Engine files behind their hashes: whatever the bytes say, reading gives a graph that verifies or an Error.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "engine/engine_file.h"
#include "osprey/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::filesystem::path file = [] {
    std::string name = (std::filesystem::temp_directory_path() / "osprey_fuzz_engine.XXXXXX").string();
    if (::mkstemp(name.data()) < 0) std::abort();
    return name;
  }();
  std::ofstream(file, std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  try {
    osprey::verify(osprey::read_engine(file, osprey::HashCheck::kNone).model.graph);
  } catch (const osprey::Error& e) {
    if (e.code() != osprey::ErrorCode::kBadInput) std::abort();
  }
  return 0;
}
