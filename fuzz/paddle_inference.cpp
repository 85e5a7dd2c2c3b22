// fuzz-libs: osprey_formats
// Four bytes of length (little-endian), the program, then the parameters.
#include "formats/paddle_inference.h"

#include "checkpoint_target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace osprey;
  std::uint32_t length = 0;
  if (size < sizeof(length)) return 0;
  std::memcpy(&length, data, sizeof(length));
  const std::size_t program_size = std::min<std::size_t>(length, size - sizeof(length));
  const std::uint8_t* const rest = data + sizeof(length);
  const auto program = std::make_shared<std::vector<std::byte>>(program_size);
  if (program_size > 0) std::memcpy(program->data(), rest, program_size);
  const Source source{.name = fuzz::kFileName, .bytes = *program, .owner = program};
  return fuzz::run_checkpoint(
      rest + program_size, size - sizeof(length) - program_size,
      [&](const Source& parameters) { return read_paddle_inference(source, parameters); });
}
