#include "ops/paste_masks.h"

#include <numeric>

#include <gtest/gtest.h>

#include "cpu/box_cases_test.h"
#include "image/rle.h"

namespace osprey {
namespace {

// The masks as bytes, each of its photo's size.
std::vector<std::vector<std::uint8_t>> run(const Tensor& masks, const std::vector<Roi>& boxes,
                                           const std::vector<std::int32_t>& rows, int threads = 1,
                                           RunParameters parameters = {}) {
  const auto count = static_cast<std::int64_t>(rows.size());
  const std::vector<Tensor> out = run_kernel({.op = PasteMasks{},
                                              .inputs = {{masks, {}, masks.dim(0) + 1},
                                                         {rows_tensor(boxes), {}, count + 1},
                                                         {tensor_of(rows, {count}), {}, count + 1},
                                                         {rows_tensor(kTwoImages)}},
                                              .threads = threads,
                                              .parameters = parameters});
  const auto runs = out[0].values<std::int32_t>();
  std::vector<std::vector<std::uint8_t>> result;
  std::int32_t begin = 0;
  for (std::size_t e = 0; e < rows.size(); ++e) {
    const Geometry& g = kTwoImages[static_cast<std::size_t>(boxes[e].image)];
    Rle rle{.height = static_cast<int>(g.height), .width = static_cast<int>(g.width)};
    const std::int32_t end = out[1].values<std::int32_t>()[e];
    rle.counts.assign(runs.begin() + begin, runs.begin() + end);
    begin = end;
    const auto pixels = static_cast<std::size_t>(rle.height) * static_cast<std::size_t>(rle.width);
    EXPECT_EQ(std::accumulate(rle.counts.begin(), rle.counts.end(), std::size_t{0}), pixels);
    result.emplace_back(pixels);
    decode_mask(rle, result.back().data());
  }
  EXPECT_EQ(out[0].dim(0), begin);
  return result;
}

// The bilinear sample at a pixel's centre, zero outside the map, in double arithmetic.
double sample(const float* map, int size, const Box& b, int x, int y) {
  const double u = (x + 0.5 - b.x0) / b.width() * size - 0.5, v = (y + 0.5 - b.y0) / b.height() * size - 0.5;
  const auto at = [&](int i, int j) {
    return i >= 0 && j >= 0 && i < size && j < size ? double{map[j * size + i]} : 0.0;
  };
  const int i = static_cast<int>(std::floor(u)), j = static_cast<int>(std::floor(v));
  const double fu = u - i, fv = v - j;
  return (1 - fv) * ((1 - fu) * at(i, j) + fu * at(i + 1, j)) +
         fv * ((1 - fu) * at(i, j + 1) + fu * at(i + 1, j + 1));
}

TEST(PasteMasks, SamplesEachMaskOverItsBox) {
  const Tensor masks = random_tensor({5, 7, 7}, 0, 1, 3);
  const std::vector<Roi> boxes{{0, {3.2f, 4.7f, 60.1f, 90.5f}},
                               {0, {100, 80, 124.5f, 119}},
                               {1, {-5, -7, 40, 20}},
                               {1, {10, 5, 11.5f, 29}}};
  const std::vector<std::int32_t> rows{0, 1, 3, 4};
  for (const float threshold : {0.5f, 0.7f}) {
    const auto got = run(masks, boxes, rows, 1, {.mask_threshold = threshold});
    EXPECT_EQ(got, run(masks, boxes, rows, 2, {.mask_threshold = threshold}));
    for (std::size_t e = 0; e < rows.size(); ++e) {
      const Geometry& g = kTwoImages[static_cast<std::size_t>(boxes[e].image)];
      const float* map = masks.values<float>().data() + rows[e] * 49;
      std::size_t inside = 0;
      for (int y = 0; y < static_cast<int>(g.height); ++y)
        for (int x = 0; x < static_cast<int>(g.width); ++x) {
          const double p = sample(map, 7, boxes[e].box, x, y);
          const bool is = got[e][static_cast<std::size_t>(y) * static_cast<std::size_t>(g.width) +
                                 static_cast<std::size_t>(x)];
          EXPECT_TRUE(is == (p >= threshold) || std::abs(p - threshold) < 1e-5)
              << e << ": " << y << ", " << x;
          inside += is;
        }
      EXPECT_GT(inside, 0u);
    }
  }
}

TEST(PasteMasks, NothingAndNonsense) {
  EXPECT_TRUE(run(Tensor::zeros(DType::kF32, {0, 4, 4}), {}, {}).empty());
  const Tensor masks = random_tensor({1, 4, 4}, 0.6f, 1, 3);
  const auto got = run(masks, {{0, {NAN, 0, 9, 9}}, {0, {9, 9, 9, 9}}, {1, {500, 500, 600, 600}}}, {0, 0, 0},
                       1, {.mask_threshold = 0.0f});
  for (const auto& mask : got) EXPECT_EQ(std::accumulate(mask.begin(), mask.end(), 0), 0);
}

}  // namespace
}  // namespace osprey
