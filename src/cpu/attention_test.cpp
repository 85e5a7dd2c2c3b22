#include "ops/attention.h"

#include <cmath>

#include <gtest/gtest.h>

#include "cpu/kernel_harness.h"

namespace osprey {
namespace {

struct Case {
  std::int64_t images, tokens, width;
  int heads;
};

// In double.
double reference(const Case& c, const Tensor& query_key, const Tensor& value, std::int64_t row,
                 std::int64_t channel) {
  const std::int64_t size = c.width / c.heads, first = channel / size * size,
                     image = row / c.tokens * c.tokens;
  const auto qk = [&](std::int64_t r, std::int64_t i) {
    return static_cast<double>(query_key.values<float>()[static_cast<std::size_t>(r * 2 * c.width + i)]);
  };
  double sum = 0, total = 0;
  for (std::int64_t key = image; key < image + c.tokens; ++key) {
    double score = 0;
    for (std::int64_t i = first; i < first + size; ++i) score += qk(row, i) * qk(key, c.width + i);
    const double share = std::exp(score / std::sqrt(static_cast<double>(size)));
    sum += share;
    total += share * value.values<float>()[static_cast<std::size_t>(key * c.width + channel)];
  }
  return total / sum;
}

TEST(Attention, IsTheSoftmaxOfEveryHead) {
  for (const Case& c : {Case{1, 1, 4, 1}, {2, 5, 8, 2}, {1, 33, 24, 3}, {3, 48, 64, 2}, {1, 70, 34, 2}})
    for (const int threads : {1, 2}) {
      const Tensor query_key = random_tensor({c.images * c.tokens, 2 * c.width}, -2, 2, 1);
      const Tensor value = random_tensor({c.images * c.tokens, c.width}, -2, 2, 2);
      const Tensor got = run_kernel({.op = Attention{.heads = c.heads, .tokens = static_cast<int>(c.tokens)},
                                     .inputs = {{query_key}, {value}},
                                     .threads = threads})
                             .at(0);
      ASSERT_EQ(got.shape(), value.shape());
      for (std::int64_t i = 0; i < got.size(); ++i)
        ASSERT_NEAR(got.values<float>()[static_cast<std::size_t>(i)],
                    reference(c, query_key, value, i / c.width, i % c.width), 2e-6)
            << c.tokens << " tokens of " << c.width << ", element " << i;
    }
}

TEST(Attention, LargeScoresDoNotOverflow) {
  const Tensor query_key = tensor_of<float>({100, 100, 100, -100}, {2, 2}),
               value = tensor_of<float>({3, 5}, {2, 1});
  const Tensor got =
      run_kernel({.op = Attention{.heads = 1, .tokens = 2}, .inputs = {{query_key}, {value}}}).at(0);
  EXPECT_EQ(got.values<float>()[0], 3);
}

}  // namespace
}  // namespace osprey
