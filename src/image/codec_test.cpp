#include "image/codec.h"

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "core/file.h"

namespace osprey {
namespace {

std::uint32_t fnv1a(const std::vector<std::uint8_t>& bytes) {
  std::uint32_t value = 2166136261u;
  for (const std::uint8_t byte : bytes) value = (value ^ byte) * 16777619u;
  return value;
}

// What Pillow 12 makes of each file of fuzz/corpus/image: size and hash of the pixels, or zeros for an error.
struct Expected {
  const char* file;
  int width, height;
  std::uint32_t hash;
};

// Printed by scripts/make_image_corpus.py.
constexpr Expected kExpected[] = {
    {"444.jpg", 13, 9, 0x8dc9a9c2u},
    {"420.jpg", 19, 21, 0x7515d9c3u},
    {"422_progressive.jpg", 19, 21, 0x56fde9c5u},
    {"restart.jpg", 40, 9, 0x5582ac28u},
    {"grey.jpg", 13, 9, 0x16a3f863u},
    {"cmyk.jpg", 13, 9, 0xfaac8a06u},
    {"exif6.jpg", 9, 13, 0x4e3c7eb1u},
    {"rgb.png", 13, 9, 0x20d9b98fu},
    {"rgba.png", 13, 9, 0x20d9b98fu},
    {"grey1.png", 11, 3, 0xcfaed433u},
    {"grey2.png", 11, 3, 0x760c1521u},
    {"grey16.png", 11, 3, 0x67508074u},
    {"rgb16.png", 5, 3, 0xc63e6391u},
    {"palette4.png", 11, 3, 0xb2a9c32eu},
    {"grey_alpha16.png", 5, 3, 0xa70a365au},
    {"interlaced.png", 11, 10, 0x205f30a5u},
    {"interlaced1.png", 3, 2, 0x4ae28bb6u},
    {"exif8.png", 9, 13, 0xcb095747u},
    {"bits1.bmp", 11, 3, 0x87661079u},
    {"bits4.bmp", 11, 3, 0xed462466u},
    {"bits8.bmp", 5, 3, 0xd3424c38u},
    {"bits24.bmp", 5, 3, 0x840ddaadu},
    {"bits24_top_down.bmp", 5, 3, 0x943b6adcu},
    {"bits32.bmp", 5, 3, 0x6c65f89bu},
    {"truncated.jpg", 0, 0, 0},
    {"truncated_progressive.jpg", 0, 0, 0},
    {"truncated.png", 0, 0, 0},
    {"truncated.bmp", 0, 0, 0},
    {"gigantic.png", 0, 0, 0},
    {"text.txt", 0, 0, 0},
};

std::filesystem::path corpus(const char* file) {
  return std::filesystem::path(OSPREY_SOURCE_DIR) / "fuzz/corpus/image" / file;
}

std::string message_of(const std::filesystem::path& file) {
  try {
    read_image(file);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBadInput);
    return e.what();
  }
  return "";
}

TEST(Codec, DecodesToPillowsPixels) {
  for (const Expected& expected : kExpected) {
    SCOPED_TRACE(expected.file);
    if (expected.width == 0) {
      EXPECT_NE(message_of(corpus(expected.file)).find(expected.file), std::string::npos);
      continue;
    }
    const Image image = read_image(corpus(expected.file));
    EXPECT_EQ(image.width, expected.width);
    EXPECT_EQ(image.height, expected.height);
    EXPECT_EQ(fnv1a(image.pixels), expected.hash);
  }
}

TEST(Codec, EveryPrefixIsDecodedOrRefused) {
  for (const Expected& expected : kExpected) {
    const auto file = MappedFile::open(corpus(expected.file));
    for (std::size_t size = 0; size < file->bytes().size(); ++size) {
      try {
        decode_image(file->bytes().first(size), "prefix", 1 << 20);
      } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::kBadInput) << expected.file << " " << size << " " << e.what();
      }
    }
  }
}

TEST(Codec, SizeIsCheckedBeforeAllocation) {
  EXPECT_NE(message_of(corpus("gigantic.png")).find("100000 x 100000"), std::string::npos);
  for (const char* file : {"420.jpg", "rgb.png", "bits24.bmp"})
    EXPECT_THROW(decode_image(MappedFile::open(corpus(file))->bytes(), file, 10), Error);
}

TEST(Codec, MissingFileIsNamed) {
  EXPECT_NE(message_of("/nowhere/x.jpg").find("/nowhere/x.jpg"), std::string::npos);
}

class WriteImage : public testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove(file("png")), std::filesystem::remove(file("JPG")); }

  static std::filesystem::path file(const char* extension) {
    return std::filesystem::temp_directory_path() / fmt::format("osprey_codec_{}.{}", ::getpid(), extension);
  }
  static Image gradient(int width, int height) {
    Image image(width, height);
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x)
        image.row(y)[3 * x] = static_cast<std::uint8_t>(3 * x),
                         image.row(y)[3 * x + 1] = static_cast<std::uint8_t>(2 * y);
    return image;
  }
};

TEST_F(WriteImage, PngReturnsTheSamePixels) {
  const Image image = gradient(37, 23);
  write_image(file("png"), image);
  EXPECT_EQ(read_image(file("png")).pixels, image.pixels);
}

TEST_F(WriteImage, ViewsWithAStrideAreWritten) {
  const Image image = gradient(37, 23);
  write_image(file("png"), ImageView{image.row(3), 10, 5, 37 * 3});
  const Image part = read_image(file("png"));
  ASSERT_EQ(part.width, 10);
  EXPECT_EQ(part.row(4)[3 * 9 + 1], image.row(7)[3 * 9 + 1]);
}

TEST_F(WriteImage, JpegReturnsNearlyTheSamePixels) {
  const Image image = gradient(37, 23);
  write_image(file("JPG"), image);
  const Image back = read_image(file("JPG"));
  ASSERT_EQ(back.pixels.size(), image.pixels.size());
  for (std::size_t i = 0; i < image.pixels.size(); ++i) EXPECT_NEAR(back.pixels[i], image.pixels[i], 6);
}

TEST_F(WriteImage, OtherExtensionsAreRefused) {
  EXPECT_THROW(write_image("x.gif", gradient(1, 1)), Error);
  EXPECT_THROW(write_image("x", gradient(1, 1)), Error);
}

}  // namespace
}  // namespace osprey
