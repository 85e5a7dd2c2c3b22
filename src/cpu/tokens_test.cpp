#include "ops/tokens.h"

#include <gmock/gmock.h>

#include "cpu/kernel_harness.h"
#include "ops/combine_rows.h"
#include "ops/gather_rows.h"
#include "ops/token_map.h"

namespace osprey {
namespace {

using testing::ElementsAre;

float at(const Tensor& t, std::int64_t i) { return t.values<float>()[static_cast<std::size_t>(i)]; }

TEST(Tokens, AreThePixelsOfEveryMapImageByImage) {
  const Tensor large = random_tensor({2, 5, 9, 11}, -1, 1, 1), small = random_tensor({2, 5, 1, 3}, -1, 1, 2);
  for (const int block : {0, 1, 8, 16})
    for (const int threads : {1, 2}) {
      const Tensor got =
          run_kernel({.op = Tokens{}, .inputs = {{large, {block}}, {small, {block}}}, .threads = threads})
              .at(0);
      ASSERT_EQ(got.shape(), (Shape{2 * 102, 5}));
      for (std::int64_t n = 0; n < 2; ++n)
        for (std::int64_t t = 0; t < 102; ++t)
          for (std::int64_t c = 0; c < 5; ++c) {
            const float want = t < 99 ? at(large, (n * 5 + c) * 99 + t) : at(small, (n * 5 + c) * 3 + t - 99);
            ASSERT_EQ(at(got, (n * 102 + t) * 5 + c), want) << n << " " << t << " " << c;
          }
    }
}

TEST(Tokens, BecomeAMapAgain) {
  const Tensor map = random_tensor({2, 3, 4, 5}, -1, 1, 3);
  const Tensor rows = run_kernel({.op = Tokens{}, .inputs = {{map}}}).at(0);
  const Tensor back =
      run_kernel({.op = TokenMap{.height = 4, .width = 5}, .inputs = {{rows}}, .threads = 2}).at(0);
  ASSERT_EQ(back.shape(), map.shape());
  for (std::int64_t i = 0; i < map.size(); ++i) ASSERT_EQ(at(back, i), at(map, i)) << i;
}

TEST(CombineRows, RepeatsItsTableForEveryImage) {
  const Tensor x = tensor_of<float>({1, 2, 3, 4, 5, 6, 7, 8}, {4, 2});
  const Tensor table = tensor_of<float>({10, 20, 30, 40}, {2, 2}), column = tensor_of<float>({0, 2}, {2, 1});
  const Tensor sum = run_kernel({.op = CombineRows{}, .inputs = {{x}, {table}}}).at(0);
  EXPECT_THAT(sum.values<float>(), ElementsAre(11, 22, 33, 44, 15, 26, 37, 48));
  const Tensor product =
      run_kernel({.op = CombineRows{.rule = CombineRule::kMultiply}, .inputs = {{x}, {column}}, .threads = 2})
          .at(0);
  EXPECT_THAT(product.values<float>(), ElementsAre(0, 0, 6, 8, 0, 0, 14, 16));
}

TEST(CombineRows, TellsTokensByTheirRows) {
  const Tensor x = tensor_of<float>({1, 2, 3}, {3, 1}), table = tensor_of<float>({10, 20}, {2, 1});
  const Tensor rows = tensor_of<std::int32_t>({1, 3, 2}, {3});
  const Tensor got = run_kernel({.op = CombineRows{}, .inputs = {{x}, {table}, {rows}}}).at(0);
  EXPECT_THAT(got.values<float>(), ElementsAre(21, 22, 13));
}

TEST(GatherRows, TakesThemByTheirNumbers) {
  const Tensor x = tensor_of<float>({1, 2, 3, 4, 5, 6}, {3, 2});
  const Tensor rows = tensor_of<std::int32_t>({2, 0, 2}, {3});
  const Tensor got = run_kernel({.op = GatherRows{}, .inputs = {{x}, {rows}}}).at(0);
  EXPECT_THAT(got.values<float>(), ElementsAre(5, 6, 1, 2, 5, 6));
}

TEST(GatherRows, FollowsTheLiveRows) {
  const Tensor x = tensor_of<float>({1, 2, 3}, {3, 1}), rows = tensor_of<std::int32_t>({1}, {1});
  EXPECT_THAT(run_kernel({.op = GatherRows{}, .inputs = {{x}, {rows, {}, 7}}}).at(0).values<float>(),
              ElementsAre(2));
  const Tensor none = Tensor::zeros(DType::kI32, {0});
  EXPECT_EQ(run_kernel({.op = GatherRows{}, .inputs = {{x}, {none, {}, 7}}}).at(0).size(), 0);
}

}  // namespace
}  // namespace osprey
