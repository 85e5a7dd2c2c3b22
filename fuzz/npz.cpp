// fuzz-libs: osprey_formats
#include "checkpoint_target.h"
#include "formats/npy.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return osprey::fuzz::run_checkpoint(data, size,
                                      [](const osprey::Source& source) { return osprey::read_npz(source); });
}
