#include "image/paste_mask.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "image/rle.h"

namespace osprey {
namespace {

constexpr float kThreshold = 0.5f;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

Rle paste(const std::vector<float>& map, int size, Box box, int height, int width) {
  PasteWorkspace workspace;
  Rle out;
  paste_mask(map, size, box, height, width, kThreshold, workspace, out);
  return out;
}

std::vector<float> noise(int size) {
  std::vector<float> map(static_cast<std::size_t>(size * size));
  for (std::size_t i = 0; i < map.size(); ++i)
    map[i] = static_cast<float>(static_cast<std::uint32_t>(i + 1) * 2654435761u >> 8) /
             static_cast<float>(1 << 24);
  return map;
}

// The rule pixel by pixel over the whole photo, in double precision where rounding cannot matter.
std::vector<std::uint8_t> plain_paste(const std::vector<float>& map, int size, Box box, int height,
                                      int width) {
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(height * width));
  const auto cell = [&](int x, int y) {
    return x < 0 || y < 0 || x >= size || y >= size
               ? 0.0
               : static_cast<double>(map[static_cast<std::size_t>(y * size + x)]);
  };
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const double u = (x + 0.5 - box.x0) / box.width() * size - 0.5,
                   v = (y + 0.5 - box.y0) / box.height() * size - 0.5;
      if (std::abs(u) > 2 * size || std::abs(v) > 2 * size) continue;
      const int left = static_cast<int>(std::floor(u)), top = static_cast<int>(std::floor(v));
      const double a = u - left, b = v - top;
      const double value = (1 - a) * (1 - b) * cell(left, top) + a * (1 - b) * cell(left + 1, top) +
                           (1 - a) * b * cell(left, top + 1) + a * b * cell(left + 1, top + 1);
      mask[static_cast<std::size_t>(y * width + x)] = value >= kThreshold;
    }
  }
  return mask;
}

TEST(PasteMask, FullMapFillsThePixelsWhoseCentresLieInTheBox) {
  const Rle rle = paste(std::vector<float>(28 * 28, 1.f), 28, {2, 1, 5, 3}, 4, 7);
  EXPECT_EQ(rle.counts, (std::vector<std::uint32_t>{9, 2, 2, 2, 2, 2, 9}));
  EXPECT_EQ(paste(std::vector<float>(28 * 28, 1.f), 28, {-1, -1, 9, 9}, 4, 7).counts,
            (std::vector<std::uint32_t>{0, 28}));
}

TEST(PasteMask, TheThresholdItselfIsInside) {
  EXPECT_EQ(mask_area(paste(std::vector<float>(4 * 4, 0.5f), 4, {0, 0, 4, 4}, 4, 4)), 16);
  EXPECT_EQ(mask_area(paste(std::vector<float>(4 * 4, std::nextafter(0.5f, 0.f)), 4, {0, 0, 4, 4}, 4, 4)), 0);
}

TEST(PasteMask, EqualsThePlainRule) {
  const Box boxes[] = {{3.2f, 4.7f, 50.1f, 33.3f}, {-20.5f, -7.25f, 30.f, 90.f}, {40.4f, 10.f, 41.3f, 50.f},
                       {55.5f, 35.5f, 90.f, 80.f}, {10.1f, 10.2f, 10.4f, 10.9f}, {0, 0, 60, 40}};
  for (const int size : {14, 28, 56}) {
    for (const Box& box : boxes) {
      const auto map = noise(size);
      EXPECT_EQ(paste(map, size, box, 40, 60),
                encode_mask(plain_paste(map, size, box, 40, 60).data(), 40, 60))
          << size << " " << box.x0 << " " << box.y0;
    }
  }
}

TEST(PasteMask, BoxesWithNothingToShowGiveAnEmptyMask) {
  const Box boxes[] = {{5, 5, 5, 9},         {5, 5, 9, 5},          {100, 5, 120, 9},
                       {-50, -50, -20, -20}, {30, 30, 5, 5},        {kNaN, 0, 5, 5},
                       {0, 0, 5, kNaN},      {-kInfinity, 0, 5, 5}, {1e30f, 0, 2e30f, 5}};
  for (const Box& box : boxes) {
    const Rle rle = paste(std::vector<float>(28 * 28, 1.f), 28, box, 20, 30);
    EXPECT_EQ(rle.counts, std::vector<std::uint32_t>{600}) << box.x0 << " " << box.x1;
    EXPECT_EQ(rle.height, 20);
    EXPECT_EQ(rle.width, 30);
  }
}

TEST(PasteMask, WorkspacesCarryNothingOver) {
  PasteWorkspace workspace;
  Rle out;
  paste_mask(noise(56), 56, {0, 0, 60, 40}, 40, 60, kThreshold, workspace, out);
  const auto map = noise(28);
  const Box box{3.2f, 4.7f, 20.1f, 13.3f};
  paste_mask(map, 28, box, 30, 50, kThreshold, workspace, out);
  EXPECT_EQ(out, paste(map, 28, box, 30, 50));
}

// TensorFlow's crop_and_resize of the map under the photo, in fractions of the box, in double arithmetic.
TEST(PasteMask, CornersOfTensorflow) {
  constexpr int kSize = 9;
  const std::vector<float> map = noise(kSize);
  for (const Box& box :
       {Box{3.3f, 2.1f, 40.7f, 25.2f}, Box{-7, -3, 20, 60}, Box{0, 0, 50, 40}, Box{30, 30, 31, 31}}) {
    constexpr int kHeight = 40, kWidth = 50;
    PasteWorkspace workspace;
    Rle got;
    paste_mask(map, kSize, box, kHeight, kWidth, kThreshold, workspace, got, MaskSampling::kCorners);
    std::vector<std::uint8_t> mask(kHeight * kWidth);
    decode_mask(got, mask.data());
    const auto at = [](int i, int length, double low, double high) {
      return (static_cast<double>(i) / (length - 1) - low / length) / ((high - low) / length) * (kSize - 1);
    };
    int inside = 0, differ = 0;
    for (int y = 0; y < kHeight; ++y)
      for (int x = 0; x < kWidth; ++x) {
        const double u = at(x, kWidth, box.x0, box.x1), v = at(y, kHeight, box.y0, box.y1);
        double value = 0;
        if (u >= 0 && v >= 0 && u <= kSize - 1 && v <= kSize - 1)
          for (int i = 0; i < kSize; ++i)
            for (int j = 0; j < kSize; ++j)
              value += std::max(0.0, 1 - std::abs(v - i)) * std::max(0.0, 1 - std::abs(u - j)) *
                       static_cast<double>(map[static_cast<std::size_t>(i * kSize + j)]);
        inside += value >= kThreshold;
        if (std::abs(value - kThreshold) > 1e-4)
          differ += (value >= kThreshold) != (mask[static_cast<std::size_t>(y * kWidth + x)] != 0);
      }
    EXPECT_EQ(differ, 0);
    EXPECT_GT(inside, box.width() > 2 ? 50 : -1);
  }
}

}  // namespace
}  // namespace osprey
