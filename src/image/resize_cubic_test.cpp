#include "image/resize_cubic.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

namespace osprey {
namespace {

Image pattern(int width, int height) {
  Image out(width, height);
  std::uint32_t state = 1;
  for (std::uint8_t& v : out.pixels)
    v = static_cast<std::uint8_t>((state = state * 1664525u + 1013904223u) >> 24);
  return out;
}

Image resized(ImageView in, int width, int height, int rows_at_once) {
  CubicResizer resizer;
  resizer.prepare({in.width, in.height}, {width, height});
  Image out(width, height);
  std::vector<float> workspace(resizer.workspace_size());
  for (int y = 0; y < height; y += rows_at_once)
    resizer.rows(in, y, std::min(y + rows_at_once, height), out.row(0), 3 * std::ptrdiff_t{width}, workspace);
  return out;
}

double keys(double t) {
  t = std::abs(t);
  return t <= 1 ? (1.25 * t - 2.25) * t * t + 1 : t < 2 ? ((-0.75 * t + 3.75) * t - 6) * t + 3 : 0;
}

double exact(ImageView in, int width, int height, int x, int y, int c) {
  const double u = (x + 0.5) * in.width / width - 0.5, v = (y + 0.5) * in.height / height - 0.5;
  double sum = 0;
  for (int j = -1; j <= 2; ++j)
    for (int i = -1; i <= 2; ++i) {
      const int column = static_cast<int>(std::floor(u)) + i, row = static_cast<int>(std::floor(v)) + j;
      sum += keys(u - column) * keys(v - row) *
             in.row(std::clamp(row, 0, in.height - 1))[3 * std::clamp(column, 0, in.width - 1) + c];
    }
  return std::clamp(sum, 0.0, 255.0);
}

TEST(CubicResizer, IsKeysKernelRoundedOnce) {
  const Image in = pattern(23, 17);
  for (const ImageSize to : {ImageSize{64, 32}, {23, 17}, {7, 40}, {1, 1}, {32, 5}}) {
    const Image out = resized(in, to.width, to.height, to.height);
    for (int y = 0; y < to.height; ++y)
      for (int x = 0; x < to.width; ++x)
        for (int c = 0; c < 3; ++c)
          ASSERT_NEAR(out.row(y)[3 * x + c], exact(in, to.width, to.height, x, y, c), 0.5 + 1e-4)
              << to.width << "x" << to.height << ": " << x << ", " << y;
  }
}

TEST(CubicResizer, OfTheSameSizeIsTheImage) {
  const Image in = pattern(9, 6);
  EXPECT_EQ(resized(in, 9, 6, 6).pixels, in.pixels);
}

TEST(CubicResizer, RowsMayBeSharedOut) {
  const Image in = pattern(31, 29);
  EXPECT_EQ(resized(in, 40, 50, 7).pixels, resized(in, 40, 50, 50).pixels);
}

TEST(CubicResizer, OnePixelIsAllThereIs) {
  const Image in = pattern(1, 1), out = resized(in, 5, 4, 4);
  for (std::size_t i = 0; i < out.pixels.size(); ++i) EXPECT_EQ(out.pixels[i], in.pixels[i % 3]);
}

}  // namespace
}  // namespace osprey
