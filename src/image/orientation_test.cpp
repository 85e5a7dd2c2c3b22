#include "image/orientation.h"

#include <gtest/gtest.h>

namespace osprey {
namespace {

// A picture of pixels (n, n, n), from text: rows between '/'.
Image picture(std::string_view rows) {
  const auto width = static_cast<int>(std::min(rows.find('/'), rows.size()));
  Image image(width, static_cast<int>((rows.size() + 1) / static_cast<std::size_t>(width + 1)));
  for (int y = 0; y < image.height; ++y)
    for (int x = 0; x < width; ++x)
      std::fill_n(image.row(y) + 3 * x, 3,
                  static_cast<std::uint8_t>(rows[static_cast<std::size_t>(y * (width + 1) + x)]));
  return image;
}

std::string text(const Image& image) {
  std::string out;
  for (int y = 0; y < image.height; ++y) {
    if (y > 0) out += '/';
    for (int x = 0; x < image.width; ++x) out += static_cast<char>(image.row(y)[3 * x + 2]);
  }
  return out;
}

std::string tiff(std::string_view order, std::uint16_t type, std::uint32_t count, std::uint32_t value) {
  std::string out(order);
  const auto put = [&](std::uint32_t number, int size) {
    for (int i = 0; i < size; ++i) out += static_cast<char>(number >> 8 * (order == "MM" ? size - 1 - i : i));
  };
  put(42, 2), put(8, 4), put(2, 2);                 // header; two entries
  put(0x0100, 2), put(4, 2), put(1, 4), put(6, 4);  // some other tag
  put(0x0112, 2), put(type, 2), put(count, 4);
  put(value, type == 3 ? 2 : 4), put(0, type == 3 ? 2 : 0);  // values stand at the left of their four bytes
  return out;
}

TEST(Orientation, TurnsAndFlips) {
  const char* upright[] = {"abc/def",  "cba/fed",  "fed/cba",  "def/abc",
                           "ad/be/cf", "da/eb/fc", "fc/eb/da", "cf/be/ad"};
  for (int orientation = 1; orientation <= 8; ++orientation)
    EXPECT_EQ(text(apply_orientation(picture("abc/def"), orientation)), upright[orientation - 1])
        << orientation;
}

TEST(Orientation, IsReadInBothByteOrders) {
  for (const char* order : {"II", "MM"}) {
    EXPECT_EQ(exif_orientation(as_bytes(tiff(order, 3, 1, 6))), 6) << order;
    EXPECT_EQ(exif_orientation(as_bytes(tiff(order, 4, 1, 8))), 8) << order;
  }
}

TEST(Orientation, DamagedBlocksMeanUpright) {
  const std::string good = tiff("II", 3, 1, 6);
  for (std::size_t size = 0; size + 4 < good.size(); ++size)
    EXPECT_EQ(exif_orientation(as_bytes(std::string_view(good).substr(0, size))), 1) << size;
  EXPECT_EQ(exif_orientation(as_bytes(tiff("II", 3, 1, 9))), 1);
  EXPECT_EQ(exif_orientation(as_bytes(tiff("II", 3, 2, 6))), 1);
  EXPECT_EQ(exif_orientation(as_bytes(tiff("II", 2, 1, 6))), 1);
  EXPECT_EQ(exif_orientation(as_bytes("II*\0\xff\xff\xff\xff")), 1);
  EXPECT_EQ(exif_orientation(as_bytes("no TIFF at all")), 1);
}

}  // namespace
}  // namespace osprey
