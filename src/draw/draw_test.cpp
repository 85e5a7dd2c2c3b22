#include "osprey/draw.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "core/error.h"
#include "draw/fonts.h"
#include "draw/palette.h"

// Fontconfig keeps its caches until the process ends (the same bytes however much is drawn); LeakSanitizer
// asks here.
extern "C" __attribute__((visibility("default"))) const char* __lsan_default_suppressions() {
  return "leak:libfontconfig\n";
}

namespace osprey {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

// A photo with some texture, so that a misplaced pixel shows.
Image photo(int width, int height) {
  Image out(width, height);
  for (std::size_t i = 0; i < out.pixels.size(); ++i)
    out.pixels[i] = static_cast<std::uint8_t>(60 + i * 7 % 90);
  return out;
}

// The mask of pixels x0 <= x < x1, y0 <= y < y1.
Rle rectangle(int width, int height, int x0, int y0, int x1, int y1) {
  Rle out{height, width, {}};
  std::uint32_t zeros = x0 * height;
  for (int x = x0; x < x1; ++x) {
    out.counts.push_back(zeros + y0);
    out.counts.push_back(y1 - y0);
    zeros = height - y1;
  }
  out.counts.push_back(zeros + (width - x1) * height);
  return out;
}

Detections one(int width, int height, Detection detection) { return {width, height, {std::move(detection)}}; }

bool same_pixel(const Image& a, const Image& b, int x, int y) {
  return std::equal(a.row(y) + 3 * x, a.row(y) + 3 * x + 3, b.row(y) + 3 * x);
}

int changed_pixels(const Image& a, const Image& b) {
  int count = 0;
  for (int y = 0; y < a.height; ++y) {
    for (int x = 0; x < a.width; ++x) count += !same_pixel(a, b, x, y);
  }
  return count;
}

TEST(Draw, WithoutDetectionsThePhotoIsUnchanged) {
  const Image in = photo(37, 21);
  EXPECT_EQ(draw_detections(in, {}, {}).pixels, in.pixels);
  const Detections weak = one(37, 21, {.score = 0.2f, .box = {1, 1, 20, 20}});
  EXPECT_EQ(draw_detections(in, weak, {}, {.min_score = 0.5f}).pixels, in.pixels);
}

TEST(Draw, AViewWithPaddedRowsIsReadByItsStride) {
  const Image whole = photo(40, 20);
  const ImageView left{whole.pixels.data(), 25, 20, 3 * 40};
  const Image out = draw_detections(left, {}, {});
  for (int y = 0; y < 20; ++y) EXPECT_TRUE(std::equal(out.row(y), out.row(y) + 75, whole.row(y)));
}

TEST(Draw, AMaskTintsItsPixelsAndLeavesTheRest) {
  const Image in = photo(120, 90);
  const Detections mask =
      one(120, 90, {.score = 0.9f, .box = {30, 20, 80, 70}, .mask = rectangle(120, 90, 30, 20, 80, 70)});
  const Image out = draw_detections(in, mask, {}, {.boxes = false, .labels = false});
  for (int y = 0; y < 90; ++y) {
    for (int x = 0; x < 120; ++x) {
      const bool inside = x >= 30 && x < 80 && y >= 20 && y < 70;
      const bool near = x >= 28 && x < 82 && y >= 18 && y < 72;  // the outline is a pixel or two wide
      EXPECT_TRUE(!inside || !same_pixel(in, out, x, y)) << x << ' ' << y;
      EXPECT_TRUE(near || same_pixel(in, out, x, y)) << x << ' ' << y;
    }
  }
}

TEST(Draw, MaskAlphaRunsFromOutlineToOpaque) {
  const Image in = photo(120, 90);
  const Detections mask = one(120, 90, {.score = 0.9f, .mask = rectangle(120, 90, 30, 20, 80, 70)});
  DrawOptions options{.boxes = false, .labels = false, .mask_alpha = 0};
  EXPECT_TRUE(same_pixel(in, draw_detections(in, mask, {}, options), 50, 50));
  options.mask_alpha = 1;
  const Image opaque = draw_detections(in, mask, {}, options);
  const Color color = palette_color(0);
  EXPECT_EQ((Color{opaque.row(50)[150], opaque.row(50)[151], opaque.row(50)[152]}), color);
}

TEST(Draw, BoxesLeaveTheirInsideAlone) {
  const Image in = photo(200, 150);
  const Detections box = one(200, 150, {.class_index = 3, .score = 0.9f, .box = {50, 40, 150, 110}});
  const Image out = draw_detections(in, box, {}, {.labels = false});
  EXPECT_FALSE(same_pixel(in, out, 100, 40));
  EXPECT_FALSE(same_pixel(in, out, 50, 80));
  EXPECT_TRUE(same_pixel(in, out, 100, 80));
  EXPECT_TRUE(same_pixel(in, out, 10, 10));
}

TEST(Draw, TheSameInputGivesTheSamePixels) {
  const Image in = photo(320, 240);
  Detections many{320, 240, {}};
  for (int i = 0; i < 30; ++i) {
    const float x = float(i * 37 % 260), y = float(i * 53 % 200);
    many.items.push_back({.class_index = i % 5, .score = 1 - 0.02f * i, .box = {x, y, x + 50, y + 40}});
  }
  const Image first = draw_detections(in, many, {"one", "two"});
  EXPECT_EQ(first.pixels, draw_detections(in, many, {"one", "two"}).pixels);
}

TEST(Draw, ColoursFollowTheClassOrTheInstance) {
  const Image in = photo(200, 100);
  const Detections two{200,
                       100,
                       {{.class_index = 1, .score = 0.9f, .box = {20, 20, 80, 80}},
                        {.class_index = 1, .score = 0.8f, .box = {120, 20, 180, 80}}}};
  const auto edge = [&](ColorBy by, int x) {
    const Image out = draw_detections(in, two, {}, {.labels = false, .color_by = by, .scale = 10});
    return Color{out.row(50)[3 * x], out.row(50)[3 * x + 1], out.row(50)[3 * x + 2]};
  };
  EXPECT_EQ(edge(ColorBy::kClass, 20), palette_color(1));
  EXPECT_EQ(edge(ColorBy::kClass, 120), palette_color(1));
  EXPECT_EQ(edge(ColorBy::kInstance, 20), palette_color(0));
  EXPECT_EQ(edge(ColorBy::kInstance, 120), palette_color(1));
}

TEST(Draw, KeypointsBelowTheThresholdAndTheirLimbsAreLeftOut) {
  const Image in = photo(200, 200);
  Detection person{.score = 0.9f, .keypoints = std::vector<Keypoint>(17)};
  person.keypoints[5] = {40, 40, 0.9f};
  person.keypoints[6] = {160, 40, 0.9f};
  person.keypoints[11] = {40, 160, 0.01f};
  const Image out = draw_detections(in, one(200, 200, person), {}, {.boxes = false, .labels = false});
  EXPECT_FALSE(same_pixel(in, out, 100, 40));
  EXPECT_TRUE(same_pixel(in, out, 40, 100));
  EXPECT_TRUE(same_pixel(in, out, 40, 160));
}

TEST(Draw, OtherNumbersOfKeypointsAreDotsOnly) {
  const Image in = photo(200, 200);
  const Detection dots{.score = 0.9f, .keypoints = {{40, 40, 1}, {160, 40, 1}}};
  const Image out = draw_detections(in, one(200, 200, dots), {}, {.boxes = false, .labels = false});
  EXPECT_FALSE(same_pixel(in, out, 40, 40));
  EXPECT_FALSE(same_pixel(in, out, 160, 40));
  EXPECT_TRUE(same_pixel(in, out, 100, 40));
}

TEST(Draw, ATagNamesTheBox) {
  if (!text_available()) GTEST_SKIP() << "no font is installed";
  const Image in = photo(300, 200);
  const Detections box = one(300, 200, {.score = 0.93f, .box = {100, 80, 200, 150}});
  const Image without = draw_detections(in, box, {"cat"}, {.labels = false});
  EXPECT_GT(changed_pixels(without, draw_detections(in, box, {"cat"})), 300);
  EXPECT_GT(changed_pixels(draw_detections(in, box, {"dog"}), draw_detections(in, box, {"cat"})), 10);
  EXPECT_EQ(draw_detections(in, box, {}).pixels, draw_detections(in, box, {"class 0"}).pixels);
}

TEST(Draw, HostileValuesAreSafe) {
  const Image in = photo(64, 48);
  const std::vector<Box> boxes{{kNan, 0, 10, 10},    {0, 0, kNan, kNan},   {-kInf, -kInf, kInf, kInf},
                               {20, 20, 10, 10},     {500, 500, 600, 600}, {-1e30f, 5, 1e30f, 6},
                               {-90, -90, -80, -80}, {10, 10, 10, 10},     {0, 0, 0, 0}};
  Detections all{64, 48, {}};
  for (const Box& box : boxes) {
    all.items.push_back({.class_index = std::numeric_limits<int>::min(), .score = kInf, .box = box});
    all.items.back().keypoints = {{kNan, 3, 1}, {1e30f, -kInf, 1}, {5, 5, kNan}};
  }
  all.items.push_back({.class_index = std::numeric_limits<int>::max(), .score = kNan, .box = {0, 0, 9, 9}});
  const std::vector<std::string> labels{std::string(100000, 'x'), "\xff\xfe broken \n\t", ""};
  for (int i = 0; i < 3; ++i) all.items.push_back({.class_index = i, .score = 0.5f, .box = {5, 5, 40, 40}});
  for (const float scale : {1.f, 0.f, -3.f, 1e30f, kNan}) {
    const Image out = draw_detections(in, all, labels, {.mask_alpha = scale, .scale = scale});
    EXPECT_EQ(out.width, 64);
    EXPECT_EQ(out.height, 48);
  }
}

TEST(Draw, BoxesOutsideDrawNothing) {
  const Image in = photo(64, 48);
  const Detections far = one(64, 48, {.score = 1, .box = {500, 500, 600, 600}});
  EXPECT_EQ(draw_detections(in, far, {}).pixels, in.pixels);
}

TEST(Draw, AnySizeOfPhotoWorks) {
  for (const auto& [w, h] :
       std::vector<std::pair<int, int>>{{0, 0}, {0, 5}, {1, 1}, {2, 1}, {3, 300}, {5000, 3}}) {
    const Detections d =
        one(w, h, {.score = 0.5f, .box = {0, 0, float(w), float(h)}, .mask = rectangle(w, h, 0, 0, w, h)});
    const Image out = draw_detections(photo(w, h), d, {"thing"});
    EXPECT_EQ(out.pixels.size(), std::size_t(w) * h * 3);
  }
}

TEST(Draw, WhatDoesNotFitThePhotoIsRefused) {
  const Image in = photo(64, 48);
  EXPECT_THROW(draw_detections(in, one(48, 64, {.score = 1}), {}), Error);
  EXPECT_THROW(draw_detections(in, one(64, 48, {.score = 1, .mask = Rle{64, 48, {64 * 48}}}), {}), Error);
  EXPECT_THROW(draw_detections(in, one(64, 48, {.score = 1, .mask = Rle{48, 64, {10, 20}}}), {}), Error);
  EXPECT_THROW(draw_detections(in, one(64, 48, {.score = 1, .mask = Rle{48, 64, {~0u, ~0u}}}), {}), Error);
  EXPECT_THROW(draw_detections(ImageView{nullptr, 4, 4, 12}, {}, {}), Error);
  EXPECT_THROW(draw_detections(ImageView{in.pixels.data(), 64, 48, 10}, {}, {}), Error);
  EXPECT_THROW(draw_detections(photo(40000, 1), one(40000, 1, {.score = 1}), {}), Error);
}

// Fontconfig is read once a process, so the process without fonts is a fresh one.
TEST(DrawDeathTest, WithoutAnyFontBoxesAreDrawnWithoutTags) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto draw_without_fonts = [] {
    const std::string config = testing::TempDir() + "osprey_no_fonts.conf";
    FILE* file = std::fopen(config.c_str(), "w");
    std::fputs("<?xml version=\"1.0\"?><fontconfig></fontconfig>", file);
    std::fclose(file);
    setenv("FONTCONFIG_FILE", config.c_str(), 1);
    const Image in = photo(120, 90);
    const Detections box = one(120, 90, {.score = 0.9f, .box = {30, 20, 80, 70}});
    const bool drawn = draw_detections(in, box, {"cat"}).pixels != in.pixels;
    std::remove(config.c_str());
    std::exit(drawn && !text_available() ? 0 : 1);
  };
  EXPECT_EXIT(draw_without_fonts(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace osprey
