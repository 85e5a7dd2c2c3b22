// BMP by stb_image, which reads every uncompressed kind of 1, 4, 8, 16, 24 and 32 bits. It differs from
// Pillow in 16-bit files only, by at most one level (it replicates bits where Pillow multiplies by 255/31).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wshadow"
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#include <stb/stb_image.h>
#pragma GCC diagnostic pop

#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>

#include "image/codec.h"

namespace osprey {
namespace {

struct Header {
  std::int64_t pixels_offset, width, height, bits;
};

Header read_header(Bytes file) {
  ByteReader in(file, "BMP");
  in.seek(10);
  const auto offset = in.read<std::uint32_t>();
  if (in.read<std::uint32_t>() == 12) {  // OS/2's first header has 16-bit sizes
    const auto width = in.read<std::uint16_t>(), height = in.read<std::uint16_t>();
    in.take(2);
    return {offset, width, height, in.read<std::uint16_t>()};
  }
  const std::int64_t width = in.read<std::int32_t>(), height = in.read<std::int32_t>();
  in.take(2);
  return {offset, width, std::abs(height), in.read<std::uint16_t>()};  // negative: rows from the top
}

}  // namespace

Decoded decode_bmp(Bytes file, std::int64_t max_pixels) {
  const Header header = read_header(file);
  require_size(header.width, header.height, max_pixels);
  require(file.size() <= std::numeric_limits<int>::max(), "BMP: {} bytes are too many", file.size());
  // stb_image reads zeros past the end, so a truncated file must be found here.
  const std::int64_t row_bytes = (header.width * header.bits + 31) / 32 * 4;
  require(header.pixels_offset + row_bytes * header.height <= static_cast<std::int64_t>(file.size()),
          "BMP: {} x {} pixels of {} bits at byte {} need more than the {} bytes there are (is the file "
          "truncated?)",
          header.width, header.height, header.bits, header.pixels_offset, file.size());

  int width = 0, height = 0, channels = 0;
  const std::unique_ptr<stbi_uc, decltype(&stbi_image_free)> pixels(
      stbi_load_from_memory(reinterpret_cast<const stbi_uc*>(file.data()), static_cast<int>(file.size()),
                            &width, &height, &channels, 3),
      &stbi_image_free);
  require(pixels != nullptr, "BMP: {}", stbi_failure_reason());
  require_size(width, height, max_pixels);
  Decoded out{Image(width, height)};
  std::memcpy(out.image.pixels.data(), pixels.get(), out.image.pixels.size());
  return out;
}

}  // namespace osprey
