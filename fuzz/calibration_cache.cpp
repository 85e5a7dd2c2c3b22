// fuzz-libs: osprey_engine
// What a calibration found, and what an interrupted one left: whatever the text says, reading either gives
// numbers that belong together or an Error.
#include "engine/calibration_cache.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "osprey/error.h"

namespace {

template <class Read>
void expect_bad_input_only(Read read) {
  try {
    read();
  } catch (const osprey::Error& e) {
    if (e.code() != osprey::ErrorCode::kBadInput) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::filesystem::path file = [] {
    std::string name = (std::filesystem::temp_directory_path() / "osprey_fuzz_calibration.XXXXXX").string();
    if (::mkstemp(name.data()) < 0) std::abort();
    return name;
  }();
  std::ofstream(file, std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  expect_bad_input_only([] { osprey::read_cache(file); });
  expect_bad_input_only([] { osprey::read_partial(file); });
  return 0;
}
