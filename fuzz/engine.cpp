// fuzz-libs: osprey_engine
// Engine files behind their hashes: whatever the bytes say, reading gives a graph that verifies, with weights
// that are not empty (kernels divide by their extents), or an Error.
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
    const osprey::EngineData engine = osprey::read_engine(file, osprey::HashCheck::kNone);
    const osprey::Graph& graph = engine.model.graph;
    osprey::verify(graph);
    for (const osprey::Weight& weight : graph.weights())
      for (const osprey::Dim& dim : graph.value(weight.value).type.dims)
        if (dim.constant() == 0) std::abort();
  } catch (const osprey::Error& e) {
    if (e.code() != osprey::ErrorCode::kBadInput) std::abort();
  }
  return 0;
}
