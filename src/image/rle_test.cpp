// Properties of the mask API and small cases by hand; its agreement with pycocotools is in tests/parity.
#include "image/rle.h"

#include <limits>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "osprey/error.h"

namespace osprey {
namespace {

using ::testing::ElementsAre;
using Mask = std::vector<std::uint8_t>;

Mask random_mask(int height, int width, std::mt19937& rng) {
  Mask mask(static_cast<std::size_t>(height) * width);
  const unsigned density = rng() % 256;
  for (auto& m : mask) m = rng() % 256 < density ? static_cast<std::uint8_t>(1 + rng() % 255) : 0;
  return mask;
}

Mask decoded(const Rle& rle) {
  Mask mask(static_cast<std::size_t>(rle.height) * rle.width, 9);
  decode_mask(rle, mask.data());
  return mask;
}

TEST(Rle, RunsGoDownTheColumns) {
  const Mask mask{0, 0, 5,  //
                  1, 0, 1};
  EXPECT_THAT(encode_mask(mask.data(), 2, 3).counts, ElementsAre(1, 1, 2, 2));
  const Mask full(6, 1);
  EXPECT_THAT(encode_mask(full.data(), 2, 3).counts, ElementsAre(0, 6));
  const Mask none(6, 0);
  EXPECT_THAT(encode_mask(none.data(), 2, 3).counts, ElementsAre(6));
}

TEST(Rle, EncodingAndTextRoundTrip) {
  std::mt19937 rng(1);
  for (int i = 0; i < 300; ++i) {
    const int height = 1 + rng() % 30, width = 1 + rng() % 40;
    const Mask mask = random_mask(height, width, rng);
    const Rle rle = encode_mask(mask.data(), height, width);
    const Mask back = decoded(rle);
    for (std::size_t p = 0; p < mask.size(); ++p) ASSERT_EQ(back[p], mask[p] != 0);
    ASSERT_EQ(decompress_rle(compress_rle(rle), height, width), rle);
  }
}

TEST(Rle, OverlapsCountPixels) {
  std::mt19937 rng(2);
  for (int i = 0; i < 300; ++i) {
    const int height = 1 + rng() % 20, width = 1 + rng() % 20;
    const Mask a = random_mask(height, width, rng), b = random_mask(height, width, rng);
    const Rle ra = encode_mask(a.data(), height, width), rb = encode_mask(b.data(), height, width);
    int both = 0, either = 0, first = 0;
    for (std::size_t p = 0; p < a.size(); ++p) {
      both += a[p] && b[p];
      either += a[p] || b[p];
      first += a[p] != 0;
    }
    EXPECT_EQ(mask_area(ra), first);
    EXPECT_EQ(mask_iou(ra, rb, false), both == 0 ? 0. : double(both) / either);
    EXPECT_EQ(mask_iou(ra, rb, true), both == 0 ? 0. : double(both) / first);
    const std::array masks{ra, rb};
    EXPECT_EQ(mask_area(merge_masks(masks, false)), either);
    EXPECT_EQ(mask_area(merge_masks(masks, true)), both);
  }
}

TEST(Rle, BoxHoldsThePixels) {
  const Rle rle = rle_from_counts(std::vector<std::uint32_t>{11, 3, 8, 2, 76}, 10, 10);
  EXPECT_THAT(mask_box(rle), ElementsAre(1, 1, 2, 3));
  const Rle wraps = rle_from_counts(std::vector<std::uint32_t>{18, 4, 78}, 10, 10);
  EXPECT_THAT(mask_box(wraps), ElementsAre(1, 0, 2, 10));
  EXPECT_THAT(mask_box(rle_from_counts(std::vector<std::uint32_t>{100}, 10, 10)), ElementsAre(0, 0, 0, 0));
}

TEST(Rle, EmptyRunsAreMergedAway) {
  EXPECT_THAT(rle_from_counts(std::vector<std::uint32_t>{0, 3, 0, 2, 5}, 2, 5).counts, ElementsAre(0, 5, 5));
  EXPECT_THAT(rle_from_counts(std::vector<std::uint32_t>{4, 0, 0, 0, 6}, 2, 5).counts, ElementsAre(10));
}

TEST(Rle, BoxesAreRasterisedWithoutTheirFarEdge) {
  EXPECT_THAT(mask_box(rle_from_box({2, 3, 4, 5}, 20, 20)), ElementsAre(2, 3, 4, 5));
  EXPECT_EQ(mask_area(rle_from_box({-5, -5, 100, 100}, 20, 30)), 600);
  EXPECT_EQ(mask_area(rle_from_box({25, 0, 3, 3}, 20, 20)), 0);
}

TEST(Rle, LongEdgesCostNoMoreThanTheirColumns) {
  const std::array<double, 6> huge{-1e7, -1e7, 1e7, -1e7, 10, 1e7};
  EXPECT_EQ(mask_area(rle_from_polygon(huge, 30, 30)), 900);
}

TEST(Rle, HostileTextIsRefused) {
  EXPECT_THROW(decompress_rle("11", 5, 5), Error);          // adds up to 2
  EXPECT_THROW(decompress_rle("P", 5, 5), Error);           // ends within a number
  EXPECT_THROW(decompress_rle("oooooooooo", 5, 5), Error);  // no 32-bit number
  EXPECT_THROW(decompress_rle("O", 5, 5), Error);           // negative
  EXPECT_THROW(decompress_rle(" ", 5, 5), Error);
  EXPECT_THROW(decompress_rle("", 5, 5), Error);
  EXPECT_THROW(decompress_rle("0", 1 << 20, 1 << 20), Error);
  EXPECT_THROW(decompress_rle("0", -1, 5), Error);
  EXPECT_THROW(rle_from_counts(std::vector<std::uint32_t>{0xffffffffu, 26}, 5, 5), Error);
}

TEST(Rle, HostilePolygonsAreRefused) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(rle_from_polygon(std::vector<double>{0, 0, 1}, 5, 5), Error);
  EXPECT_THROW(rle_from_polygon(std::vector<double>{0, 0, kNan, 1, 2, 2}, 5, 5), Error);
  EXPECT_THROW(rle_from_polygon(std::vector<double>{0, 0, 1e300, 1, 2, 2}, 5, 5), Error);
  EXPECT_THROW(merge_masks(std::array{Rle{5, 5, {25}}, Rle{5, 4, {20}}}, false), Error);
}

}  // namespace
}  // namespace osprey
