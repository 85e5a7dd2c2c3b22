// fuzz-libs: osprey_image
// Pictures of any kind, as a server gets them. The limit on pixels keeps the fuzzer from spending its time on
// clearing memory; the check against it is the one that larger limits go through.
#include "core/error.h"
#include "image/codec.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::int64_t kMaxPixels = 1 << 18;
  try {
    osprey::decode_image(osprey::Bytes(reinterpret_cast<const std::byte*>(data), size), "fuzz", kMaxPixels);
  } catch (const osprey::Error& e) {
    if (e.code() != osprey::ErrorCode::kBadInput) throw;
  }
  return 0;
}
