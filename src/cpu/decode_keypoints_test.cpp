#include "ops/decode_keypoints.h"

#include <algorithm>
#include <limits>

#include <gtest/gtest.h>

#include "cpu/box_cases_test.h"

namespace osprey {
namespace {

double cubic(double x) {  // the kernel with a = -0.75
  x = std::abs(x);
  if (x <= 1) return (1.25 * x - 2.25) * x * x + 1;
  return x < 2 ? -0.75 * (((x - 5) * x + 8) * x - 4) : 0;
}

// The whole enlarged map, in double arithmetic.
std::vector<double> enlarge(const float* map, std::int64_t size, std::int64_t h, std::int64_t w) {
  std::vector<double> out;
  for (std::int64_t y = 0; y < h; ++y)
    for (std::int64_t x = 0; x < w; ++x) {
      const double fy =
          (static_cast<double>(y) + 0.5) * static_cast<double>(size) / static_cast<double>(h) - 0.5;
      const double fx =
          (static_cast<double>(x) + 0.5) * static_cast<double>(size) / static_cast<double>(w) - 0.5;
      double sum = 0;
      for (auto j = static_cast<std::int64_t>(std::floor(fy)) - 1; j <= std::floor(fy) + 2; ++j)
        for (auto i = static_cast<std::int64_t>(std::floor(fx)) - 1; i <= std::floor(fx) + 2; ++i)
          sum +=
              cubic(fy - static_cast<double>(j)) * cubic(fx - static_cast<double>(i)) *
              map[std::clamp(j, std::int64_t{0}, size - 1) * size + std::clamp(i, std::int64_t{0}, size - 1)];
      out.push_back(sum);
    }
  return out;
}

Tensor run(const Tensor& maps, const std::vector<Roi>& rois, int threads = 1) {
  const std::int64_t bound = static_cast<std::int64_t>(rois.size()) + 2;
  return run_kernel({.op = DecodeKeypoints{},
                     .inputs = {{maps, {}, bound}, {rows_tensor(rois), {}, bound}},
                     .threads = threads})
      .at(0);
}

TEST(DecodeKeypoints, ThePeakOfTheEnlargedMap) {
  const std::vector<Roi> rois{
      {0, {3, 4, 33.5f, 60.25f}}, {0, {10, 20, 310, 50}}, {1, {7, 8, 7.5f, 8}}, {1, {0, 0, 129, 128}}};
  const Tensor maps = random_tensor({4, 3, 14, 14}, -4, 4, 1);
  const Tensor got = run(maps, rois), again = run(maps, rois, 2);
  EXPECT_TRUE(std::ranges::equal(got.bytes(), again.bytes()));
  for (std::size_t d = 0; d < 4; ++d)
    for (std::size_t k = 0; k < 3; ++k) {
      const float* map = maps.values<float>().data() + (d * 3 + k) * 196;
      const float* point = got.values<float>().data() + (d * 3 + k) * 4;
      const double w = std::max(rois[d].box.width(), 1.0f), h = std::max(rois[d].box.height(), 1.0f);
      const auto columns = static_cast<std::int64_t>(std::ceil(w)),
                 rows = static_cast<std::int64_t>(std::ceil(h));
      const std::vector<double> large = enlarge(map, 14, rows, columns);
      const double most = *std::ranges::max_element(large);
      double sum = 0;
      for (int i = 0; i < 196; ++i) sum += std::exp(map[i] - most);
      const auto x = std::lround((point[0] - rois[d].box.x0) * static_cast<double>(columns) / w - 0.5);
      const auto y = std::lround((point[1] - rois[d].box.y0) * static_cast<double>(rows) / h - 0.5);
      EXPECT_NEAR(large[static_cast<std::size_t>(y * columns + x)], most, 1e-5);
      EXPECT_NEAR(point[0],
                  (static_cast<double>(x) + 0.5) * w / static_cast<double>(columns) + rois[d].box.x0, 1e-4);
      EXPECT_NEAR(point[1], (static_cast<double>(y) + 0.5) * h / static_cast<double>(rows) + rois[d].box.y0,
                  1e-4);
      EXPECT_NEAR(point[2], most, 1e-5);
      EXPECT_NEAR(point[3], 1 / sum, 1e-5);
    }
}

TEST(DecodeKeypoints, TheFirstOfEqualMaximaAcrossStrips) {
  const Tensor got = run(Tensor::zeros(DType::kF32, {1, 1, 4, 4}), {{0, {0, 0, 400, 300}}});
  EXPECT_EQ(got.values<float>()[0], 0.5f);
  EXPECT_EQ(got.values<float>()[1], 0.5f);
  EXPECT_EQ(got.values<float>()[3], 1.0f / 16);
}

TEST(DecodeKeypoints, BoxesThatAreNoBoxes) {
  const float inf = std::numeric_limits<float>::infinity();
  const Tensor maps = random_tensor({3, 1, 4, 4}, -1, 1, 1);
  run(maps, {{0, {NAN, 0, 1, 1}}, {0, {5, 5, 1, 1}}, {0, {-inf, 0, -inf, 9}}});
  Tensor nan = Tensor::zeros(DType::kF32, {1, 1, 4, 4});
  std::ranges::fill(nan.mutable_values<float>(), NAN);
  run(nan, {{0, {0, 0, 9, 9}}});
  EXPECT_EQ(run(Tensor::zeros(DType::kF32, {0, 1, 4, 4}), {}).dim(0), 0);
}

}  // namespace
}  // namespace osprey
