#include "ops/deformable_attention.h"

#include <cmath>

#include <gtest/gtest.h>

#include "cpu/kernel_harness.h"

namespace osprey {
namespace {

struct Inputs {
  Tensor value, offsets, logits, reference;
};

double element(const Tensor& t, std::int64_t i) { return t.values<float>()[static_cast<std::size_t>(i)]; }

// A map's value at a whole pixel, zero outside.
double pixel(const Inputs& in, std::int64_t first, int height, int width, int y, int x,
             std::int64_t channel) {
  if (x < 0 || y < 0 || x >= width || y >= height) return 0;
  return element(in.value, (first + y * width + x) * in.value.dim(1) + channel);
}

// In double, by the definition.
double reference(const DeformableAttention& op, const Inputs& in, std::int64_t tokens, std::int64_t query,
                 std::int64_t channel) {
  const std::int64_t samples = op.samples(), head = channel / (in.value.dim(1) / op.heads);
  const std::int64_t base = (query * op.heads + head) * samples;
  double sum = 0, total = 0;
  for (std::int64_t s = 0; s < samples; ++s) {
    std::int64_t first = query / op.queries * tokens;
    const std::int64_t level = s / op.points;
    for (std::int64_t l = 0; l < level; ++l) first += op.sizes[2 * l] * op.sizes[2 * l + 1];
    const int height = op.sizes[2 * level], width = op.sizes[2 * level + 1];
    const auto place = [&](int axis, int size) {
      const double center = element(in.reference, query * 4 + axis),
                   extent = element(in.reference, query * 4 + 2 + axis);
      return (center + element(in.offsets, (base + s) * 2 + axis) / op.points * extent * 0.5) * size - 0.5;
    };
    const double x = place(0, width), y = place(1, height);
    const int left = static_cast<int>(std::floor(x)), top = static_cast<int>(std::floor(y));
    const double across = x - left, down = y - top;
    const auto at = [&](int dy, int dx) {
      return pixel(in, first, height, width, top + dy, left + dx, channel);
    };
    const double sample = (at(0, 0) * (1 - across) + at(0, 1) * across) * (1 - down) +
                          (at(1, 0) * (1 - across) + at(1, 1) * across) * down;
    const double share = std::exp(element(in.logits, base + s));
    sum += share;
    total += share * sample;
  }
  return total / sum;
}

TEST(DeformableAttention, SamplesEveryMapAroundTheBox) {
  struct Case {
    std::vector<int> sizes;
    int heads, points, channels, queries;
    std::int64_t images;
  };
  for (const Case& c :
       {Case{{1, 1}, 1, 1, 1, 1, 1}, {{5, 7, 3, 4}, 2, 4, 6, 3, 2}, {{8, 8, 4, 4, 2, 2}, 8, 4, 64, 10, 2}})
    for (const int threads : {1, 2}) {
      const DeformableAttention op{
          .heads = c.heads, .points = c.points, .queries = c.queries, .sizes = c.sizes};
      std::int64_t tokens = 0;
      for (std::size_t l = 0; l < c.sizes.size(); l += 2) tokens += c.sizes[l] * c.sizes[l + 1];
      const std::int64_t rows = c.images * c.queries, all = op.samples() * c.heads;
      // Boxes at the edge, and offsets far outside.
      const Inputs in{random_tensor({c.images * tokens, c.channels}, -1, 1, 1),
                      random_tensor({rows, 2 * all}, -8, 8, 2), random_tensor({rows, all}, -3, 3, 3),
                      random_tensor({rows, 4}, 0, 1, 4)};
      const Tensor got = run_kernel({.op = op,
                                     .inputs = {{in.value}, {in.offsets}, {in.logits}, {in.reference}},
                                     .threads = threads})
                             .at(0);
      ASSERT_EQ(got.shape(), (Shape{rows, c.channels}));
      for (std::int64_t i = 0; i < got.size(); ++i)
        ASSERT_NEAR(element(got, i), reference(op, in, tokens, i / c.channels, i % c.channels), 2e-5) << i;
    }
}

TEST(DeformableAttention, PlacesThatAreNotFiniteCountNothing) {
  const DeformableAttention op{.heads = 1, .points = 1, .queries = 1, .sizes = {2, 2}};
  const Tensor value = tensor_of<float>({1, 1, 1, 1}, {4, 1}), logits = tensor_of<float>({0}, {1, 1});
  const Tensor box = tensor_of<float>({0.5f, 0.5f, 1, 1}, {1, 4});
  for (const float offset : {NAN, INFINITY, -1e30f}) {
    const Tensor offsets = tensor_of<float>({offset, 0}, {1, 2});
    EXPECT_EQ(element(run_kernel({.op = op, .inputs = {{value}, {offsets}, {logits}, {box}}}).at(0), 0), 0);
  }
}

}  // namespace
}  // namespace osprey
