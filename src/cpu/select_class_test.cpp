#include "ops/select_class.h"

#include <cmath>

#include <gtest/gtest.h>

#include "cpu/kernel_harness.h"

namespace osprey {
namespace {

TEST(SelectClass, SigmoidOfTheRowsOwnMap) {
  for (const std::int64_t classes : {1, 21})
    for (const int block : {0, 1, 8, 16})
      for (const int threads : {1, 2}) {
        const Tensor maps = random_tensor({5, classes, 3, 4}, -6, 6, 4);
        const std::vector<std::int32_t> chosen{0, 20, 7, 8, 15};
        const Tensor got = run_kernel({.op = SelectClass{},
                                       .inputs = {{maps, {block}, 9}, {tensor_of(chosen, {5}), {}, 9}},
                                       .threads = threads})
                               .at(0);
        ASSERT_EQ(got.shape(), (Shape{5, 3, 4}));
        for (std::size_t i = 0; i < 60; ++i) {
          const auto plane = i / 12 * static_cast<std::size_t>(classes) +
                             (classes == 1 ? 0 : static_cast<std::size_t>(chosen[i / 12]));
          const double logit = maps.values<float>()[plane * 12 + i % 12];
          EXPECT_NEAR(got.values<float>()[i], 1 / (1 + std::exp(-logit)), 1e-6);
        }
      }
}

TEST(SelectClass, Bf16IsWidenedFirst) {
  Tensor maps = Tensor::zeros(DType::kBF16, {1, 1, 1, 2});
  maps.mutable_values<BFloat16>()[1] = to_bfloat16(2.0f);
  const Tensor got =
      run_kernel({.op = SelectClass{}, .inputs = {{maps, {16}, 1}, {Tensor::zeros(DType::kI32, {1}), {}, 1}}})
          .at(0);
  EXPECT_EQ(got.values<float>()[0], 0.5f);
  EXPECT_FLOAT_EQ(got.values<float>()[1], 0.880797f);
}

}  // namespace
}  // namespace osprey
