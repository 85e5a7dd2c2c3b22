#include "image/orientation.h"

#include <cstring>

namespace osprey {
namespace {

constexpr std::uint16_t kOrientationTag = 0x0112;
constexpr std::uint32_t kByte = 1, kShort = 3, kLong = 4;  // TIFF's types of a field

// Unsigned numbers of either byte order at any offset; past the end they read as 0.
class TiffReader {
 public:
  explicit TiffReader(Bytes bytes) : bytes_(bytes), big_(as_text(bytes).starts_with("MM")) {}

  std::uint32_t at(std::size_t offset, std::size_t size) const {
    if (offset > bytes_.size() || size > bytes_.size() - offset) return 0;
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < size; ++i)
      value = value << 8 | std::to_integer<std::uint32_t>(bytes_[offset + (big_ ? i : size - 1 - i)]);
    return value;
  }

 private:
  Bytes bytes_;
  bool big_;
};

// A picture of this size whose pixel x, y is where at(x, y) points.
template <class Source>
Image remap(int width, int height, Source at) {
  Image out(width, height);
  for (int y = 0; y < height; ++y) {
    std::uint8_t* to = out.row(y);
    for (int x = 0; x < width; ++x, to += 3) std::memcpy(to, at(x, y), 3);
  }
  return out;
}

}  // namespace

int exif_orientation(Bytes tiff) {
  const std::string_view text = as_text(tiff);
  if (!text.starts_with("II") && !text.starts_with("MM")) return 1;
  const TiffReader in(tiff);
  if (in.at(2, 2) != 42) return 1;
  const std::size_t directory = in.at(4, 4);
  const std::size_t entries = in.at(directory, 2);
  for (std::size_t i = 0; i < entries; ++i) {
    const std::size_t entry = directory + 2 + 12 * i;  // tag, type, count, value, of 2, 2, 4 and 4 bytes
    if (entry >= tiff.size()) return 1;
    if (in.at(entry, 2) != kOrientationTag) continue;
    const std::uint32_t type = in.at(entry + 2, 2);
    const std::size_t size = type == kByte ? 1 : type == kShort ? 2 : type == kLong ? 4 : 0;
    const std::uint32_t value = in.at(entry + 4, 4) == 1 ? in.at(entry + 8, size) : 0;
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

Image apply_orientation(Image in, int orientation) {
  const int w = in.width, h = in.height;
  const auto pixel = [&in](int x, int y) { return in.row(y) + 3 * static_cast<std::ptrdiff_t>(x); };
  switch (orientation) {
    case 2:
      return remap(w, h, [=](int x, int y) { return pixel(w - 1 - x, y); });
    case 3:
      return remap(w, h, [=](int x, int y) { return pixel(w - 1 - x, h - 1 - y); });
    case 4:
      return remap(w, h, [=](int x, int y) { return pixel(x, h - 1 - y); });
    case 5:
      return remap(h, w, [=](int x, int y) { return pixel(y, x); });
    case 6:
      return remap(h, w, [=](int x, int y) { return pixel(y, h - 1 - x); });
    case 7:
      return remap(h, w, [=](int x, int y) { return pixel(w - 1 - y, h - 1 - x); });
    case 8:
      return remap(h, w, [=](int x, int y) { return pixel(w - 1 - y, x); });
    default:
      return in;
  }
}

}  // namespace osprey
