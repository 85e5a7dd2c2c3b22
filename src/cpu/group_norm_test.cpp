#include "ops/group_norm.h"

#include <cmath>

#include <gtest/gtest.h>

#include "cpu/kernel_harness.h"
#include "cpu/testing.h"

namespace osprey {
namespace {

std::vector<double> in_double(const GroupNorm& op, const Tensor& x, const Tensor& scale, const Tensor& bias) {
  const auto images = static_cast<std::size_t>(x.dim(0)), channels = static_cast<std::size_t>(x.dim(1));
  const std::size_t pixels = static_cast<std::size_t>(x.size()) / std::max<std::size_t>(images * channels, 1);
  const std::size_t each = channels / static_cast<std::size_t>(op.groups) * pixels;
  std::vector<double> out(static_cast<std::size_t>(x.size()));
  for (std::size_t first = 0; first < out.size(); first += each) {
    double mean = 0, variance = 0;
    for (std::size_t i = first; i < first + each; ++i) mean += x.values<float>()[i] / double(each);
    for (std::size_t i = first; i < first + each; ++i)
      variance += std::pow(x.values<float>()[i] - mean, 2) / double(each);
    for (std::size_t i = first; i < first + each; ++i) {
      const std::size_t c = i / pixels % channels;
      const double v =
          (x.values<float>()[i] - mean) / std::sqrt(variance + op.epsilon) * scale.values<float>()[c] +
          bias.values<float>()[c];
      out[i] = op.activation == Activation::kRelu ? std::max(v, 0.0) : v;
    }
  }
  return out;
}

struct Map {
  Shape shape;
  int groups;
};
const Map kMaps[]{{{2, 6, 5, 7}, 3},   {{1, 32, 1, 1}, 32}, {{3, 40, 4, 4}, 4}, {{1, 16, 61, 67}, 2},
                  {{1, 1, 90, 91}, 1}, {{2, 33, 3, 5}, 11}, {{0, 8, 4, 4}, 2},  {{5, 64}, 8},
                  {{1, 7}, 1},         {{0, 12}, 3}};

TEST(GroupNorm, OfEachGroupInDoubleInEveryLayout) {
  for (const auto& [shape, groups] : kMaps)
    for (const Activation activation : {Activation::kNone, Activation::kRelu})
      for (const int block : {1, 0, 8, 16})
        for (const int threads : {1, 2}) {
          if (shape.size() == 2 && block != 1) continue;
          const GroupNorm op{.groups = groups, .activation = activation};
          const Tensor x = random_tensor(shape, 3, 9, 1);
          const Tensor scale = random_tensor({shape[1]}, 0.5, 2, 2),
                       bias = random_tensor({shape[1]}, -1, 1, 3);
          const CpuLayout layout{block};
          const bool empty = shape[0] == 0;
          const Tensor got = run_kernel({.op = op,
                                         .inputs = {{x, layout, empty ? 4 : 0}, {scale}, {bias}},
                                         .output_layout = layout,
                                         .threads = threads})
                                 .at(0);
          ASSERT_EQ(got.shape(), shape);
          const auto want = in_double(op, x, scale, bias);
          for (std::size_t i = 0; i < want.size(); ++i)
            ASSERT_NEAR(got.values<float>()[i], want[i], 1e-5)
                << to_string(shape) << " " << block << " " << i;
        }
}

// Sums are those of f32; what is stored is rounded once.
TEST(GroupNorm, Bf16InEveryLayout) {
  for (const auto& [shape, groups] : kMaps)
    for (const int block : {1, 0, 8, 16}) {
      if (shape.size() == 2 || shape[0] == 0) continue;
      const GroupNorm op{.groups = groups, .activation = Activation::kRelu};
      const Tensor x = random_tensor(shape, 3, 9, 1), scale = random_tensor({shape[1]}, 0.5, 2, 2),
                   bias = random_tensor({shape[1]}, -1, 1, 3);
      testing::OpCase c{op, {x}, {scale, bias}, DType::kBF16};
      c.options.block = block;
      const auto want = in_double(op, testing::as_seen(x, DType::kBF16), scale, bias);
      const std::vector<float> floats(want.begin(), want.end());
      testing::expect_near(testing::run_case(c), Tensor::from<float>(floats, shape), 0x1p-8,
                           fmt::format("{} in blocks of {}", to_string(shape), block));
    }
}

// Numbers far from zero: their squares would hide how little they differ.
TEST(GroupNorm, SmallDifferencesOfLargeNumbers) {
  Tensor x = Tensor::zeros(DType::kF32, {1, 4, 50, 100});
  for (std::size_t i = 0; i < 20000; ++i) x.mutable_values<float>()[i] = 10000.0f + static_cast<float>(i % 2);
  const Tensor ones = tensor_of<float>({1, 1, 1, 1}, {4}), zeros = tensor_of<float>({0, 0, 0, 0}, {4});
  const Tensor got = run_kernel({.op = GroupNorm{.groups = 2}, .inputs = {{x}, {ones}, {zeros}}}).at(0);
  for (std::size_t i = 0; i < 20000; ++i) ASSERT_NEAR(got.values<float>()[i], i % 2 == 0 ? -1 : 1, 2e-3) << i;
}

TEST(GroupNorm, OfEqualNumbersIsTheBias) {
  const Tensor x = random_tensor({1, 2, 3, 3}, 5, 5, 1), scale = tensor_of<float>({2, 3}, {2});
  const Tensor bias = tensor_of<float>({-1, 1}, {2});
  const Tensor got = run_kernel({.op = GroupNorm{.groups = 1}, .inputs = {{x}, {scale}, {bias}}}).at(0);
  for (std::size_t i = 0; i < 18; ++i) EXPECT_EQ(got.values<float>()[i], i < 9 ? -1 : 1);
}

}  // namespace
}  // namespace osprey
