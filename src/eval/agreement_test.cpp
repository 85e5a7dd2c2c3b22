#include "eval/agreement.h"

#include <gtest/gtest.h>

#include "image/rle.h"

namespace osprey {
namespace {

Detections two() {
  Detections out{100, 100, std::vector<Detection>(2)};
  out.items[0].class_index = 3;
  out.items[0].score = 0.9f;
  out.items[0].box = {10, 10, 50, 50};
  out.items[1].class_index = 4;
  out.items[1].score = 0.8f;
  out.items[1].box = {20, 20, 60, 60};
  return out;
}

TEST(Agreement, TheSameAgreesWhateverTheOrder) {
  Detections other = two();
  std::swap(other.items[0], other.items[1]);
  const Agreement a = compare_detections(two(), other, bounds_for_fp32());
  EXPECT_EQ(a.matched, 2);
  EXPECT_TRUE(violations(a, bounds_for_fp32()).empty());
}

TEST(Agreement, AnotherClassIsMissingAndExtra) {
  Detections other = two();
  other.items[1].class_index = 5;
  const Agreement a = compare_detections(two(), other, bounds_for_fp32());
  EXPECT_EQ(a.missing(), 1);
  EXPECT_EQ(a.extra(), 1);
  EXPECT_EQ(violations(a, bounds_for_fp32()).size(), 2u);
}

TEST(Agreement, AShiftOrAScoreBeyondItsBoundIsNamed) {
  Detections other = two();
  other.items[0].box.x0 += 0.1f;
  other.items[1].score -= 0.01f;
  const Agreement a = compare_detections(two(), other, bounds_for_fp32());
  EXPECT_EQ(a.matched, 2);
  EXPECT_NEAR(a.largest_box, 0.1, 1e-5);
  EXPECT_EQ(violations(a, bounds_for_fp32()).size(), 2u);
  EXPECT_TRUE(violations(a, bounds_for_reduced_precision()).empty());
}

TEST(Agreement, AFewPixelsOfAMaskAreWithinBounds) {
  std::vector<std::uint8_t> pixels(100 * 100, 0);
  for (int i = 0; i < 900; ++i) pixels[static_cast<std::size_t>(i)] = 1;
  Detections a = two(), b = two();
  a.items[0].mask = encode_mask(pixels.data(), 100, 100);
  for (int i = 0; i < 8; ++i) pixels[static_cast<std::size_t>(i)] = 0;
  b.items[0].mask = encode_mask(pixels.data(), 100, 100);
  EXPECT_EQ(compare_detections(a, b, bounds_for_fp32()).masks_outside, 0);
  pixels[8] = 0;
  b.items[0].mask = encode_mask(pixels.data(), 100, 100);
  const Agreement c = compare_detections(a, b, bounds_for_fp32());
  EXPECT_EQ(c.most_mask_pixels, 9);
  EXPECT_EQ(c.masks_outside, 1);
}

}  // namespace
}  // namespace osprey
