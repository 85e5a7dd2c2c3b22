#include "image/resize.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "image/resize_kernels.h"

namespace osprey {
namespace {

// The top byte of a multiplicative hash of the index: no two neighbours alike.
Image noise(int width, int height) {
  Image image(width, height);
  for (std::size_t i = 0; i < image.pixels.size(); ++i)
    image.pixels[i] = static_cast<std::uint8_t>(static_cast<std::uint32_t>(i) * 2654435761u >> 24);
  return image;
}

std::uint32_t fnv1a(const std::vector<std::uint8_t>& bytes) {
  std::uint32_t value = 2166136261u;
  for (const std::uint8_t byte : bytes) value = (value ^ byte) * 16777619u;
  return value;
}

// One pass, said plainly: `at(i)` is sample i of a line of `in_size`.
template <class At>
std::uint8_t resampled(int in_size, int out_size, int i, At at) {
  const double scale = static_cast<double>(in_size) / out_size, reach = std::max(scale, 1.0);
  const double center = (i + 0.5) * scale;
  const int begin = std::max(0, static_cast<int>(center - reach + 0.5));
  const int end = std::min(in_size, static_cast<int>(center + reach + 0.5));
  const auto triangle = [&](int k) {
    return std::max(0.0, 1.0 - std::abs((k - center + 0.5) * (1.0 / reach)));
  };
  double total = 0;
  for (int k = begin; k < end; ++k) total += triangle(k);
  std::int64_t sum = 1 << 21;
  for (int k = begin; k < end; ++k)
    sum += at(k) * static_cast<std::int64_t>(0.5 + triangle(k) / total * (1 << 22));
  return static_cast<std::uint8_t>(std::clamp<std::int64_t>(sum >> 22, 0, 255));
}

Image plain_resize(const Image& in, int width, int height) {
  Image wide(width, in.height), out(width, height);
  for (int y = 0; y < in.height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c)
        wide.row(y)[3 * x + c] =
            width == in.width ? in.row(y)[3 * x + c]
                              : resampled(in.width, width, x, [&](int k) { return in.row(y)[3 * k + c]; });
  for (int y = 0; y < height; ++y)
    for (int i = 0; i < 3 * width; ++i)
      out.row(y)[i] = height == in.height
                          ? wide.row(y)[i]
                          : resampled(in.height, height, y, [&](int k) { return wide.row(k)[i]; });
  return out;
}

TEST(Resize, GivesPillowsBytes) {
  // Size, new size, and the hash of what Pillow 12 makes of noise().
  const struct {
    int width, height, new_width, new_height;
    std::uint32_t hash;
  } cases[] = {
      {7, 5, 7, 5, 0x843465d7u},      {7, 5, 14, 10, 0xd1126d2cu},    {40, 30, 13, 30, 0x4a7b497au},
      {40, 30, 40, 11, 0x357ddcd1u},  {40, 30, 13, 9, 0x21d06b8cu},   {33, 47, 50, 71, 0xca7b447cu},
      {33, 47, 100, 20, 0x83510fa8u}, {64, 48, 21, 100, 0x27494b0fu}, {1, 1, 5, 3, 0xcedc7eddu},
      {5, 3, 1, 1, 0xc02a1217u},      {100, 3, 31, 200, 0xf253cc26u}, {200, 150, 133, 100, 0xdf5cc984u},
      {97, 61, 194, 61, 0xf34a302fu},
  };
  for (const auto& c : cases) {
    const Image out = resize_pil_bilinear(noise(c.width, c.height), c.new_width, c.new_height);
    EXPECT_EQ(fnv1a(out.pixels), c.hash)
        << c.width << "x" << c.height << " to " << c.new_width << "x" << c.new_height;
  }
}

TEST(Resize, EqualsThePlainFormula) {
  for (int i = 0; i < 60; ++i) {  // sizes all over the place, by steps that share no factor
    const int width = 1 + 37 * i % 71, height = 1 + 53 * i % 67;
    const int new_width = 1 + 29 * i % 83, new_height = 1 + 41 * i % 79;
    const Image in = noise(width, height);
    EXPECT_EQ(resize_pil_bilinear(in, new_width, new_height).pixels,
              plain_resize(in, new_width, new_height).pixels)
        << width << "x" << height << " to " << new_width << "x" << new_height;
  }
}

TEST(Resize, WhiteStaysWhite) {
  Image white(301, 207);
  std::fill(white.pixels.begin(), white.pixels.end(), std::uint8_t{255});
  for (const auto& [width, height] : {std::pair{1, 1}, {77, 31}, {600, 414}})
    EXPECT_EQ(std::ranges::count(resize_pil_bilinear(white, width, height).pixels, 255), 3 * width * height);
}

TEST(Resize, KernelsOfEveryProcessorGiveTheSameBytes) {
  using namespace resize_kernels;
  constexpr int kWidth = 23, kTaps = 5;
  const Image in = noise(4 * kColumnBytes, kWidth + kTaps);
  std::vector<int> first(kWidth), count(kWidth);
  std::vector<std::int32_t> weights(kWidth * kTaps);
  for (std::size_t i = 0; i < weights.size(); ++i)  // those of an output add up to about 1, some to more
    weights[i] = static_cast<std::int32_t>(i * 2654435761u % (1u << kWeightBits)) / 2;
  for (int x = 0; x < kWidth; ++x)
    first[static_cast<std::size_t>(x)] = x, count[static_cast<std::size_t>(x)] = 1 + x % kTaps;

  const Taps taps{first.data(), count.data(), weights.data(), kTaps};
  std::vector<std::uint8_t> across, down;
  for (const Kernels& kernel : kernels()) {
    std::vector<std::uint8_t> row(kWidth * kColumnBytes), column(301);
    kernel.horizontal(in.pixels.data(), taps, kWidth, row.data());
    kernel.vertical(in.pixels.data(), in.view().stride, weights.data(), kTaps, column.size(), column.data());
    if (across.empty()) across = row, down = column;
    EXPECT_EQ(row, across);
    EXPECT_EQ(column, down);
  }
}

TEST(Resize, RangesOfRowsAndStridesGiveTheSame) {
  const Image in = noise(90, 70);
  const Image part(40, 50);  // of `in`, from column 5, row 7
  const ImageView view{in.row(7) + 15, part.width, part.height, 90 * 3};
  const Image whole = resize_pil_bilinear(view, 57, 31);

  PilResizer resizer(200, 100, 20, 10);  // as left behind by another picture
  resizer.prepare(part.width, part.height, 57, 31);
  std::vector<std::uint8_t> workspace(resizer.workspace_bytes());
  Image wide(60, part.height), out(57, 31);
  for (int y = 0; y < part.height; y += 7)
    resizer.horizontal(view, y, std::min(y + 7, part.height), wide.row(0), 60 * 3, workspace);
  for (int y = 0; y < 31; y += 4) resizer.vertical(wide, y, std::min(y + 4, 31), out.row(0), 57 * 3);
  EXPECT_EQ(out.pixels, whole.pixels);
}

TEST(ShortestEdge, IsDetectron2s) {
  EXPECT_EQ(shortest_edge_size(600, 400, 800, 1333), (ImageSize{1200, 800}));
  EXPECT_EQ(shortest_edge_size(400, 600, 800, 1333), (ImageSize{800, 1200}));
  EXPECT_EQ(shortest_edge_size(640, 360, 800, 1333), (ImageSize{1333, 750}));  // 1422 would be too long
  EXPECT_EQ(shortest_edge_size(512, 512, 800, 1333), (ImageSize{800, 800}));
  EXPECT_EQ(shortest_edge_size(500, 375, 800, 1333), (ImageSize{1067, 800}));
}

}  // namespace
}  // namespace osprey
