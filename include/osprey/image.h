// Images as the library takes and returns them: 8-bit RGB, rows from the top, pixels interleaved.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "osprey/api.h"

namespace osprey {

// Borrowed pixels. `stride` is the distance between rows in bytes, at least 3 * width.
struct ImageView {
  const std::uint8_t* pixels = nullptr;
  int width = 0;
  int height = 0;
  std::ptrdiff_t stride = 0;

  const std::uint8_t* row(int y) const { return pixels + y * stride; }
};

// Owned pixels, packed: row y starts at 3 * width * y.
struct Image {
  int width = 0;
  int height = 0;
  std::vector<std::uint8_t> pixels;

  Image() = default;
  Image(int w, int h) : width(w), height(h), pixels(static_cast<std::size_t>(w) * h * 3) {}

  std::uint8_t* row(int y) { return pixels.data() + static_cast<std::size_t>(y) * width * 3; }
  const std::uint8_t* row(int y) const { return pixels.data() + static_cast<std::size_t>(y) * width * 3; }
  ImageView view() const { return {pixels.data(), width, height, static_cast<std::ptrdiff_t>(width) * 3}; }
  operator ImageView() const { return view(); }
};

// Reads a JPEG, PNG or BMP file, recognised by its content. Grey and palette images become RGB, alpha is
// dropped (as Pillow's convert("RGB") does), and the EXIF orientation is applied. JPEG is decoded as
// libjpeg-turbo does by default (accurate DCT, fancy upsampling), which is what Pillow gives.
// Throws Error(kBadInput) naming the file when it is damaged, unsupported, or above kMaxImagePixels.
OSPREY_API Image read_image(const std::filesystem::path& file);

// The same, from bytes in memory; `name` stands in for the file in messages.
OSPREY_API Image decode_image(const std::uint8_t* data, std::size_t size, const std::string& name = "image");

// Writes by the extension: .png (lossless) or .jpg (quality 90, 4:4:4). The file appears whole or not at all.
OSPREY_API void write_image(const std::filesystem::path& file, ImageView image);

// The largest image that is decoded: 2^28 pixels, 768 MiB of RGB.
inline constexpr std::int64_t kMaxImagePixels = std::int64_t{1} << 28;

}  // namespace osprey
