#include "ops/rescale_boxes.h"

#include <gtest/gtest.h>

#include "cpu/box_cases_test.h"

namespace osprey {
namespace {

std::pair<std::vector<Roi>, std::vector<std::int32_t>> run(const RescaleBoxes& op,
                                                           const std::vector<Roi>& boxes) {
  const std::vector<Tensor> out =
      run_kernel({.op = op, .inputs = {{rows_tensor(boxes), {}, 10}, {rows_tensor(kTwoImages)}}});
  return {tensor_rows<Roi>(out[0]), tensor_rows<std::int32_t>(out[1])};
}

const std::vector<Roi> kBoxes{{0, {10, 20, 30, 40}},    // inside
                              {0, {90, 20, 110, 40}},   // reaches over the right edge
                              {0, {101, 20, 110, 40}},  // beyond it: nothing left
                              {0, {5, 5, 5, 9}},        // without extent
                              {1, {NAN, 0, 5, 5}},     {1, {-4, -4, 8, 8}}};

TEST(RescaleBoxes, ScalesClipsAndDropsTheEmpty) {
  const auto [boxes, rows] = run({.clip = true}, kBoxes);
  EXPECT_EQ(rows, (std::vector<std::int32_t>{0, 1, 5}));
  EXPECT_EQ(boxes[0].box, (Box{12.5f, 30, 37.5f, 60}));
  EXPECT_EQ(boxes[1].box, (Box{112.5f, 30, 125, 60}));
  EXPECT_EQ(boxes[2].box, (Box{0, 0, 6, 4}));
  EXPECT_EQ(boxes[2].image, 1);
}

TEST(RescaleBoxes, OnlyScalesWithoutClip) {
  const auto [boxes, rows] = run({.clip = false}, kBoxes);
  EXPECT_EQ(rows, (std::vector<std::int32_t>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(boxes[2].box, (Box{126.25f, 30, 137.5f, 60}));
  EXPECT_EQ(boxes[5].box, (Box{-3, -2, 6, 4}));
}

// In double, rounded once: two thirds, not 1 / 1.5f.
constexpr float kTwoThirds = static_cast<float>(80.0 / 120.0), kFourThirds = static_cast<float>(120.0 / 90.0);

TEST(RescaleBoxes, ToTheNetwork) {
  const std::vector<Roi> proposals{{0, {10, 30, 50, 60}},    // inside
                                   {0, {50, 60, 10, 30}},    // corners the other way round
                                   {0, {120, 30, 140, 60}},  // reaches over the right edge
                                   {0, {126, 30, 140, 60}},  // beyond it: nothing left
                                   {1, {30, 15, 60, 45}}};
  const auto [boxes, rows] = run({.to_network = true}, proposals);
  EXPECT_EQ(rows, (std::vector<std::int32_t>{0, 1, 2, 4}));
  EXPECT_EQ(boxes[0].box, (Box{8, 30 * kTwoThirds, 40, 60 * kTwoThirds}));
  EXPECT_EQ(boxes[1].box, boxes[0].box);
  EXPECT_EQ(boxes[2].box, (Box{96, 30 * kTwoThirds, 100, 60 * kTwoThirds}));
  EXPECT_EQ(boxes[3].box, (Box{30 * kFourThirds, 30, 60 * kFourThirds, 60}));
  EXPECT_EQ(boxes[3].image, 1);
}

TEST(RescaleBoxes, SmallProposalsGoBeforeTheFirstAreCounted) {
  const std::vector<Roi> proposals{{0, {0, 0, 5, 60}},    // 4 x 40
                                   {0, {0, 0, 50, 60}},   // 40 x 40
                                   {0, {0, 0, 6, 60}},    // 4.8 x 40
                                   {0, {0, 0, 25, 60}},   // a third one that is large enough
                                   {1, {0, 0, 3, 30}},    // 4 x 60
                                   {1, {0, 0, 30, 30}}};  // 40 x 60
  const auto [boxes, rows] = run({.to_network = true, .min_size = 4, .top = 2}, proposals);
  EXPECT_EQ(rows, (std::vector<std::int32_t>{1, 2, 5}));
}

TEST(RescaleBoxes, ToACanvas) {
  const auto [boxes, rows] = run({.clip = false, .to_network = true, .top = 2},
                                 {{0, {125, 30, 250, 60}}, {0, {50, 60, 10, 30}}, {0, {0, 0, 1, 1}}});
  EXPECT_EQ(rows, (std::vector<std::int32_t>{0, 1}));
  EXPECT_EQ(boxes[0].box, (Box{100, 30 * kTwoThirds, 200, 60 * kTwoThirds}));
  EXPECT_EQ(boxes[1].box, (Box{8, 30 * kTwoThirds, 40, 60 * kTwoThirds}));
}

TEST(RescaleBoxes, Nothing) { EXPECT_TRUE(run({}, {}).second.empty()); }

}  // namespace
}  // namespace osprey
