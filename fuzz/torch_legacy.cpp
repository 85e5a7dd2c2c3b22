// fuzz-libs: osprey_formats
#include "formats/torch_legacy.h"

#include "checkpoint_target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return osprey::fuzz::run_checkpoint(
      data, size, [](const osprey::Source& source) { return osprey::read_torch_legacy(source); });
}
