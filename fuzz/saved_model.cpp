// fuzz-libs: osprey_formats
#include "formats/saved_model.h"

#include "checkpoint_target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace osprey;
  const std::vector<std::byte> copy(reinterpret_cast<const std::byte*>(data),
                                    reinterpret_cast<const std::byte*>(data) + size);
  fuzz::expect_bad_input_only([&] {
    const Source file{.name = fuzz::kFileName, .bytes = copy, .owner = nullptr};
    read_saved_model(file);
  });
  return 0;
}
