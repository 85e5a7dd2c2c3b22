// fuzz-libs: osprey_formats
#include "checkpoint_target.h"
#include "formats/numpy_pickle.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return osprey::fuzz::run_checkpoint(
      data, size, [](const osprey::Source& source) { return osprey::read_numpy_pickle(source); });
}
