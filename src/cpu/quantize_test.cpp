#include "ops/quantize.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "cpu/kernel_harness.h"
#include "ops/concat.h"
#include "ops/dequantize.h"
#include "ops/flatten.h"
#include "ops/max_pool.h"
#include "ops/upsample.h"

namespace osprey {
namespace {

TEST(CpuQuantize, RoundsToEvenAndSaturates) {
  const float inf = std::numeric_limits<float>::infinity();
  const Tensor x = tensor_of<float>(
      {0, 0.25f, 0.75f, 1.25f, -0.25f, -0.75f, 63.5f, 64, 1e30f, -64, -64.5f, -1e30f, inf, -inf, NAN, 0.26f},
      {16});
  const Tensor y = run_kernel({Quantize{.scale = 0.5f}, {{x}}})[0];
  const std::vector<int> want{0, 0, 2, 2, 0, -2, 127, 127, 127, -128, -128, -128, 127, -128, -128, 1};
  for (std::size_t i = 0; i < want.size(); ++i) EXPECT_EQ(y.values<std::int8_t>()[i], want[i]) << i;
  const Tensor u = run_kernel({Quantize{.to = IntegerType::kU8, .scale = 0.5f}, {{x}}})[0];
  const std::vector<int> wanted{0, 0, 2, 2, 0, 0, 127, 128, 255, 0, 0, 0, 255, 0, 0, 1};
  for (std::size_t i = 0; i < wanted.size(); ++i) EXPECT_EQ(u.values<std::uint8_t>()[i], wanted[i]) << i;
}

// Any scale and layout: the nearest integer of x times the scale's inverse, as nearbyint has it.
TEST(CpuQuantize, IsTheNearestInteger) {
  const Tensor x = random_tensor({2, 19, 5, 7}, -3, 3, 7);
  for (const float scale : {0.013f, 0.021f, 1.7f})
    for (const int block : {0, 1, 16}) {
      const Tensor y = run_kernel({Quantize{.scale = scale}, {{x, {block}}}, {block}, 2})[0];
      for (std::size_t i = 0; i < x.values<float>().size(); ++i) {
        const float want = std::min(std::max(x.values<float>()[i] * (1 / scale), -128.f), 127.f);
        ASSERT_EQ(y.values<std::int8_t>()[i], static_cast<int>(std::nearbyint(want))) << scale << " " << i;
      }
    }
}

TEST(CpuDequantize, MultipliesByTheScale) {
  std::vector<std::uint8_t> all(256);
  for (std::size_t i = 0; i < 256; ++i) all[i] = static_cast<std::uint8_t>(i);
  const Tensor u = run_kernel({Dequantize{.scale = 0.3f}, {{tensor_of(all, {4, 64})}}})[0];
  const std::vector<std::int8_t> bytes(all.begin(), all.end());
  const Tensor s = run_kernel({Dequantize{.scale = 0.3f}, {{tensor_of(bytes, {4, 64})}}})[0];
  for (std::size_t i = 0; i < 256; ++i) {
    EXPECT_EQ(u.values<float>()[i], static_cast<float>(i) * 0.3f);
    EXPECT_EQ(s.values<float>()[i], static_cast<float>(bytes[i]) * 0.3f);
  }
}

TEST(CpuQuantize, OpsThatMoveValuesMoveIntegers) {
  const std::vector<std::int8_t> x{-128, 127, -1, 0, 5, -7, 100, -100};
  const Tensor map = tensor_of(x, {1, 2, 2, 2});
  for (const int block : {0, 1, 16}) {
    const Tensor pooled = run_kernel({MaxPool{.kernel = {2, 2}}, {{map, {block}}}, {block}})[0];
    EXPECT_EQ(pooled.values<std::int8_t>()[0], 127);
    EXPECT_EQ(pooled.values<std::int8_t>()[1], 100);
    const Tensor large = run_kernel({Upsample{}, {{map, {block}}}, {block}})[0];
    EXPECT_EQ(large.values<std::int8_t>()[0], -128);
    EXPECT_EQ(large.values<std::int8_t>()[5], -128);
    EXPECT_EQ(large.values<std::int8_t>()[31], -100);
    const Tensor sized = run_kernel({Upsample{.height = 1, .width = 1}, {{map, {block}}}, {block}})[0];
    EXPECT_EQ(sized.values<std::int8_t>()[1], 5);
    const Tensor both = run_kernel({Concat{}, {{map, {block}}, {map, {block}}}, {block}})[0];
    EXPECT_EQ(both.values<std::int8_t>()[8], -128);
    EXPECT_EQ(both.values<std::int8_t>()[15], -100);
  }
  const Tensor unsigned_map = tensor_of<std::uint8_t>({128, 127, 255, 0}, {1, 1, 2, 2});
  EXPECT_EQ(run_kernel({MaxPool{.kernel = {2, 2}}, {{unsigned_map}}})[0].values<std::uint8_t>()[0], 255);
  EXPECT_EQ(run_kernel({Flatten{}, {{map}}})[0].values<std::int8_t>()[7], -100);
}

}  // namespace
}  // namespace osprey
