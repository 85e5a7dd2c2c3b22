// fuzz-libs: osprey_formats
#include "formats/snappy.h"

#include "checkpoint_target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace osprey;
  const std::vector<std::byte> copy(reinterpret_cast<const std::byte*>(data),
                                    reinterpret_cast<const std::byte*>(data) + size);
  constexpr std::size_t kLimit = std::size_t{1} << 20;
  fuzz::expect_bad_input_only([&] {
    in_context(fuzz::kFileName, [&] {
      if (snappy_decompress(copy, kLimit).size() > kLimit) std::abort();
    });
  });
  return 0;
}
