#include "ops/layer_norm.h"

#include <cmath>

#include <gtest/gtest.h>

#include "cpu/kernel_harness.h"
#include "ops/gelu.h"

namespace osprey {
namespace {

TEST(LayerNorm, OfEachRowInDouble) {
  for (const std::int64_t width : {1, 7, 16, 64, 100})
    for (const bool residual : {false, true})
      for (const int threads : {1, 2}) {
        const Tensor x = random_tensor({70, width}, -3, 5, 1), r = random_tensor({70, width}, -1, 1, 2);
        const Tensor scale = random_tensor({width}, 0.5, 2, 3), bias = random_tensor({width}, -1, 1, 4);
        std::vector<KernelInput> inputs{{x}, {scale}, {bias}};
        if (residual) inputs.push_back({r});
        const Tensor got = run_kernel({.op = LayerNorm{}, .inputs = inputs, .threads = threads}).at(0);
        for (std::int64_t row = 0; row < 70; ++row) {
          const auto value = [&](std::int64_t i) {
            const auto k = static_cast<std::size_t>(row * width + i);
            return static_cast<double>(x.values<float>()[k]) + (residual ? r.values<float>()[k] : 0.f);
          };
          double mean = 0, variance = 0;
          for (std::int64_t i = 0; i < width; ++i) mean += value(i) / static_cast<double>(width);
          for (std::int64_t i = 0; i < width; ++i)
            variance += (value(i) - mean) * (value(i) - mean) / static_cast<double>(width);
          for (std::int64_t i = 0; i < width; ++i) {
            const auto k = static_cast<std::size_t>(i);
            const double want = (value(i) - mean) / std::sqrt(variance + 1e-5) * scale.values<float>()[k] +
                                bias.values<float>()[k];
            ASSERT_NEAR(got.values<float>()[static_cast<std::size_t>(row * width + i)], want, 1e-5)
                << row << " " << i;
          }
        }
      }
}

TEST(LayerNorm, OfEqualValuesIsTheBias) {
  const Tensor x = tensor_of<float>({1e4f, 1e4f, 1e4f}, {1, 3}), scale = tensor_of<float>({1, 1, 1}, {3});
  const Tensor bias = tensor_of<float>({1, 2, 3}, {3});
  const Tensor got = run_kernel({.op = LayerNorm{}, .inputs = {{x}, {scale}, {bias}}}).at(0);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(got.values<float>()[i], static_cast<float>(i + 1));
}

TEST(Gelu, IsTheExactOne) {
  const Tensor x = tensor_of<float>({-8, -1, -0.f, 0.5f, 1, 8, NAN}, {7});
  const Tensor got = run_kernel({.op = Gelu{}, .inputs = {{x}}}).at(0);
  for (std::size_t i = 0; i < 6; ++i) {
    const double v = x.values<float>()[i];
    EXPECT_NEAR(got.values<float>()[i], v / 2 * (1 + std::erf(v / std::sqrt(2.0))), 1e-6) << v;
  }
  EXPECT_TRUE(std::isnan(got.values<float>()[6]));
}

}  // namespace
}  // namespace osprey
