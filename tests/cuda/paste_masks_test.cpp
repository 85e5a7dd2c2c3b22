// The same runs as on the CPU.
#include "ops/paste_masks.h"

#include <numeric>

#include "cpu/box_cases_test.h"
#include "cuda/cuda_harness.h"
#include "image/resize.h"

namespace osprey {
namespace {

struct Case {
  Tensor maps;
  std::vector<Roi> boxes;
  std::vector<std::int32_t> map_of;
  std::vector<Geometry> geometry;
  RunParameters parameters{};
  std::int64_t bound = 0;  // of the boxes, or their number
  PasteMasks op{};
};

void expect_same_runs(const Case& c, const std::string& what) {
  const auto boxes = static_cast<std::int64_t>(c.boxes.size()), bound = std::max(c.bound, boxes + 1);
  expect_as_on_cpu({.op = c.op,
                    .inputs = {{c.maps, {}, c.maps.dim(0) + 1},
                               {rows_tensor(c.boxes), {}, bound},
                               {tensor_of(c.map_of, {boxes}), {}, bound},
                               {rows_tensor(c.geometry)}},
                    .parameters = c.parameters},
                   0, what);
}

// Boxes of every kind of position in a photo of that size.
std::vector<Roi> boxes_about(float height, float width, float image) {
  return {{image, {3.2f, 4.7f, width * 0.6f, height * 0.9f}},
          {image, {width * 0.8f, height * 0.7f, width, height}},
          {image, {-5, -7, width * 0.4f, height * 0.4f}},
          {image, {-10, -10, width + 10, height + 10}},  // the whole photo
          {image, {0, 0, width, height}},
          {image, {width * 0.3f, -3, width * 0.7f, height + 3}},  // from the top to the bottom
          {image, {width * 0.9f, 0, width + 50, height}},         // to the last pixel
          {image, {5, 2, 6.5f, height - 1}},
          {image, {7, 7, 7, 9}},
          {image, {width * 2, 3, width * 3, 9}},
          {image, {NAN, 0, 9, 9}},
          {image, {0, -INFINITY, 9, INFINITY}}};
}

TEST(CudaPasteMasks, BoxesOfEveryKind) {
  SKIP_WITHOUT_GPU();
  for (const ImageSize size :
       {ImageSize{125, 120}, {90, 30}, {64, 32}, {33, 64}, {300, 517}, {1, 1}, {1, 70}})
    for (const std::int64_t side : {7, 28}) {
      const auto height = static_cast<float>(size.height), width = static_cast<float>(size.width);
      const std::vector<Roi> boxes = boxes_about(height, width, 0);
      const auto count = static_cast<std::int64_t>(boxes.size());
      std::vector<std::int32_t> map_of;
      for (std::int64_t e = 0; e < count; ++e)
        map_of.push_back(static_cast<std::int32_t>((e * 5 + 2) % count));
      for (const float threshold : {0.5f, 0.9f, 0.0f})
        expect_same_runs(
            {random_tensor({count, side, side}, 0, 1, 3),
             boxes,
             map_of,
             {{1, 1, 1, 1, height, width}},
             {.mask_threshold = threshold}},
            fmt::format("{} x {} pixels, maps of {}, above {}", size.width, size.height, side, threshold));
    }
}

TEST(CudaPasteMasks, MapsFullOfOnes) {
  SKIP_WITHOUT_GPU();
  std::vector<float> ones(28 * 28, 1.0f);
  const std::vector<Roi> boxes = boxes_about(96, 128, 0);
  expect_same_runs({tensor_of(ones, {1, 28, 28}),
                    boxes,
                    std::vector<std::int32_t>(boxes.size(), 0),
                    {{1, 1, 1, 1, 96, 128}}},
                   "ones");
}

// More columns than the blocks of a mask take in one round, and more chunks than a warp adds up in one.
TEST(CudaPasteMasks, WidePhotos) {
  SKIP_WITHOUT_GPU();
  for (const ImageSize size : {ImageSize{1333, 800}, {1900, 37}}) {
    const auto height = static_cast<float>(size.height), width = static_cast<float>(size.width);
    const std::vector<Roi> boxes = boxes_about(height, width, 0);
    const auto count = static_cast<std::int64_t>(boxes.size());
    std::vector<std::int32_t> map_of(boxes.size());
    std::iota(map_of.begin(), map_of.end(), 0);
    expect_same_runs({.maps = random_tensor({count, 28, 28}, 0, 1, 3),
                      .boxes = boxes,
                      .map_of = map_of,
                      .geometry = {{1, 1, 1, 1, height, width}},
                      .bound = 100},
                     fmt::format("{} x {} pixels", size.width, size.height));
  }
}

TEST(CudaPasteMasks, ManyOrNoneOfABatch) {
  SKIP_WITHOUT_GPU();
  for (const std::int64_t count : {0, 1, 40, 1100}) {
    const std::vector<Roi> boxes = random_boxes(count, 2, 5);
    std::vector<std::int32_t> map_of;
    for (std::int64_t e = 0; e < count; ++e) map_of.push_back(static_cast<std::int32_t>(e % 8));
    expect_same_runs({.maps = random_tensor({8, 28, 28}, 0, 1, 3),
                      .boxes = boxes,
                      .map_of = map_of,
                      .geometry = kTwoImages,
                      .bound = 1200},
                     fmt::format("{} masks", count));
  }
}

TEST(CudaPasteMasks, CornersOfTensorflow) {
  SKIP_WITHOUT_GPU();
  for (const ImageSize size : {ImageSize{125, 120}, {64, 32}, {300, 517}, {1, 1}, {1, 70}}) {
    const std::vector<Roi> boxes =
        boxes_about(static_cast<float>(size.height), static_cast<float>(size.width), 0);
    const auto count = static_cast<std::int64_t>(boxes.size());
    std::vector<std::int32_t> map_of(boxes.size());
    std::iota(map_of.begin(), map_of.end(), 0);
    const auto height = static_cast<float>(size.height), width = static_cast<float>(size.width);
    expect_same_runs({.maps = random_tensor({count, 33, 33}, 0, 1, 3),
                      .boxes = boxes,
                      .map_of = map_of,
                      .geometry = {{height, width, 1, 1, height, width}},
                      .op = {.rule = PasteRule::kCorners}},
                     fmt::format("{} x {}", size.width, size.height));
  }
}

TEST(CudaPasteMasks, PaddedAsMaskrcnnBenchmarkDoes) {
  SKIP_WITHOUT_GPU();
  for (const ImageSize size : {ImageSize{125, 120}, {64, 32}, {300, 517}, {1, 1}, {1, 70}}) {
    const auto height = static_cast<float>(size.height), width = static_cast<float>(size.width);
    std::vector<Roi> boxes = boxes_about(height, width, 0);
    boxes.push_back({0, {7, 7, 7, 7}});  // one pixel
    boxes.push_back({0, {-3e38f, -3e38f, 3e38f, 3e38f}});
    const auto count = static_cast<std::int64_t>(boxes.size());
    std::vector<std::int32_t> map_of(boxes.size());
    std::iota(map_of.begin(), map_of.end(), 0);
    for (const std::int64_t side : {7, 28})
      for (const float threshold : {0.5f, 0.0f})
        expect_same_runs({.maps = random_tensor({count, side, side}, 0, 1, 3),
                          .boxes = boxes,
                          .map_of = map_of,
                          .geometry = {{height, width, 1, 1, height, width}},
                          .parameters = {.mask_threshold = threshold},
                          .op = {.rule = PasteRule::kPadded}},
                         fmt::format("{} x {}, maps of {}", size.width, size.height, side));
  }
  // Exactly at the threshold: outside.
  const std::vector<float> halves(28 * 28, 0.5f);
  expect_same_runs({.maps = tensor_of(halves, {1, 28, 28}),
                    .boxes = {{0, {10, 10, 40, 40}}},
                    .map_of = {0},
                    .geometry = {{96, 128, 1, 1, 96, 128}},
                    .op = {.rule = PasteRule::kPadded}},
                   "at the threshold");
}

}  // namespace
}  // namespace osprey
