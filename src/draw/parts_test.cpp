#include <cmath>
#include <numeric>
#include <random>

#include <gtest/gtest.h>

#include "core/error.h"
#include "draw/label_layout.h"
#include "draw/mask_shape.h"
#include "draw/palette.h"

namespace osprey {
namespace {

// Row-major pixels to run lengths, the plain way.
Rle encode(const std::vector<int>& mask, int height, int width) {
  Rle out{height, width, {0}};
  int value = 0;
  for (int x = 0; x < width; ++x) {
    for (int y = 0; y < height; ++y) {
      if (mask[y * width + x] != value) {
        out.counts.push_back(0);
        value = !value;
      }
      ++out.counts.back();
    }
  }
  return out;
}

std::vector<int> noise(std::mt19937& random, int size, unsigned percent) {
  std::vector<int> mask(size);
  for (int& m : mask) m = random() % 100 < percent;
  return mask;
}

double signed_area(const std::vector<Point>& ring) {
  double twice = 0;
  for (std::size_t i = 0; i < ring.size(); ++i) {
    const Point &a = ring[i], &b = ring[(i + 1) % ring.size()];
    twice += a.x * b.y - a.y * b.x;
  }
  return twice / 2;
}

TEST(MaskShape, SpansAreThePixelsOfAnyMask) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    const int width = 1 + random() % 12, height = 1 + random() % 12;
    const std::vector<int> mask = noise(random, width * height, 10 + round % 80);
    const MaskShape shape = mask_shape(encode(mask, height, width), 0.25);
    std::vector<int> filled(mask.size());
    for (const MaskSpan& s : shape.spans) {
      EXPECT_LT(s.x0, s.x1);
      for (int x = s.x0; x < s.x1; ++x) ++filled[s.y * width + x];
    }
    EXPECT_EQ(filled, mask);
    EXPECT_EQ(shape.area, std::accumulate(mask.begin(), mask.end(), 0));
  }
}

// Cutting corners by next to nothing, the rings enclose exactly the mask: holes count negative.
TEST(MaskShape, RingsEncloseTheArea) {
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    const int width = 1 + random() % 12, height = 1 + random() % 12;
    const std::vector<int> mask = noise(random, width * height, 10 + round % 80);
    const MaskShape shape = mask_shape(encode(mask, height, width), 1e-9);
    double area = 0;
    for (const auto& ring : shape.outline) area += signed_area(ring);
    EXPECT_NEAR(area, double(shape.area), 1e-5);
  }
}

TEST(MaskShape, PixelsThatMeetAtACornerHaveRingsOfTheirOwn) {
  EXPECT_EQ(mask_shape(encode({1, 0, 0, 1}, 2, 2), 0.5).outline.size(), 2u);
  EXPECT_EQ(mask_shape(encode({1, 1, 1, 1, 0, 1, 1, 1, 1}, 3, 3), 0.5).outline.size(), 2u);
}

TEST(MaskShape, StairsBecomeAStraightLine) {
  std::vector<int> mask(20 * 20);
  for (int y = 0; y < 20; ++y) {
    for (int x = 0; x <= y; ++x) mask[y * 20 + x] = 1;
  }
  const MaskShape shape = mask_shape(encode(mask, 20, 20), 1);
  for (const Point& p : shape.outline.at(0)) {
    const bool on_stairs = p.x > 1.1 && p.y < 18.9;
    EXPECT_TRUE(!on_stairs || std::abs(p.x - p.y - 0.5) < 0.01) << p.x << ' ' << p.y;
  }
}

TEST(MaskShape, RunsOfNothingAndRunsAcrossColumnsAreRead) {
  const MaskShape shape = mask_shape({4, 3, {0, 2, 0, 6, 4}}, 1);  // two runs of ones with no zeros between
  EXPECT_EQ(shape.area, 8);
  EXPECT_EQ(shape.spans.size(), 4u);
  EXPECT_EQ(shape.outline.size(), 1u);
  EXPECT_EQ(shape.bounds, (Box{0, 0, 2, 4}));
  EXPECT_EQ(mask_shape({4, 3, {12}}, 1).area, 0);
  EXPECT_EQ(mask_shape({0, 0, {}}, 1).area, 0);
  EXPECT_THROW(mask_shape({4, 3, {13}}, 1), Error);
}

TEST(MaskShape, NoiseIsFilledButNotOutlined) {
  const int side = 600;
  std::vector<int> checkers(side * side);
  for (int i = 0; i < side * side; ++i) checkers[i] = (i / side + i % side) % 2;
  const MaskShape shape = mask_shape(encode(checkers, side, side), 1);
  EXPECT_EQ(shape.area, side * side / 2);
  EXPECT_TRUE(shape.outline.empty());
}

TEST(PlaceTags, StayInTheImageAndApart) {
  std::mt19937 random(9);
  std::vector<Tag> tags;
  for (int i = 0; i < 20; ++i) {
    const double x = random() % 900, y = random() % 700;
    tags.push_back({{x - 20, y - 20, x + 120, y + 120}, 90, 18});
  }
  const std::vector<Rect> rects = place_tags(1000, 800, tags);
  ASSERT_EQ(rects.size(), tags.size());
  for (std::size_t i = 0; i < rects.size(); ++i) {
    EXPECT_GE(rects[i].x0, 0);
    EXPECT_GE(rects[i].y0, 0);
    EXPECT_LE(rects[i].x1, 1000);
    EXPECT_LE(rects[i].y1, 800);
    for (std::size_t k = 0; k < i; ++k) EXPECT_LT(overlap(rects[i], rects[k]), 0.05 * 90 * 18);
  }
}

TEST(PlaceTags, TheFirstChoiceIsAboveTheTopLeftCorner) {
  const std::vector<Tag> tags{{{50, 60, 150, 160}, 40, 10}};
  const Rect tag = place_tags(300, 300, tags)[0];
  EXPECT_EQ(tag.x0, 50);
  EXPECT_EQ(tag.y1, 60);
}

TEST(Palette, ColoursStayApartForEveryReader) {
  for (int i = 0; i < kPaletteSize; ++i) {
    for (int k = 0; k < i; ++k) {
      const double least = i < 12 ? 0.07 : i < 24 ? 0.045 : 0.01;
      EXPECT_GT(color_distance(palette_color(i), palette_color(k)), least) << i << ' ' << k;
    }
  }
}

TEST(Palette, TextIsLegibleOnEveryColour) {
  for (int i = -1; i < kPaletteSize; ++i) {
    const Color background = palette_color(i);
    const double a = luminance(background) + 0.05, b = luminance(contrasting(background)) + 0.05;
    EXPECT_GE(std::max(a, b) / std::min(a, b), 3.8) << i;
  }
}

TEST(Palette, MixGoesFromOneToTheOther) {
  EXPECT_EQ(mix(kWhite, {10, 60, 120}, 0), kWhite);
  EXPECT_EQ(mix(kWhite, {10, 60, 120}, 1), (Color{10, 60, 120}));
  EXPECT_GT(luminance(mix(kWhite, kBlack, 0.4)), luminance(mix(kWhite, kBlack, 0.6)));
}

}  // namespace
}  // namespace osprey
