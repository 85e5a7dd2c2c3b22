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

TEST(RescaleBoxes, Nothing) { EXPECT_TRUE(run({}, {}).second.empty()); }

}  // namespace
}  // namespace osprey
