// Attention and deformable attention against the CPU's.
#include "ops/attention.h"

#include "cuda/cuda_harness.h"
#include "ops/deformable_attention.h"

namespace osprey {
namespace {

// Shares are rounded to the type before they meet the values.
double tolerance(DType type) { return type == DType::kF16 ? 0x1p-9 : type == DType::kBF16 ? 0x1p-6 : 1e-5; }

void run_attention(int heads, int size, int tokens, std::int64_t images, float spread, DType type) {
  const std::int64_t width = std::int64_t{heads} * size, rows = images * tokens;
  expect_as_on_cpu(
      {.op = Attention{.heads = heads, .tokens = tokens},
       .inputs = {{rounded_to(random_tensor({rows, 2 * width}, -spread, spread, 1), type)},
                  {rounded_to(random_tensor({rows, width}, -1, 1, 2), type)}}},
      tolerance(type),
      fmt::format("{} heads of {}, {} tokens, {} images, {}", heads, size, tokens, images, name_of(type)));
}

TEST(CudaAttention, AsOnTheCpu) {
  SKIP_WITHOUT_GPU();
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16})
    for (const int size : {1, 8, 16, 32, 64})
      for (const int tokens : {1, 7, 16, 17, 100, 300, 400})
        run_attention(size == 32 ? 8 : 3, size, tokens, tokens < 50 ? 3 : 1, 1, type);
}

TEST(CudaAttention, SharplyPeakedRows) {
  SKIP_WITHOUT_GPU();
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16})
    short_cases() ? run_attention(2, 16, 100, 2, 4, type) : run_attention(8, 32, 300, 2, 4, type);
}

TEST(CudaAttention, MoreTokensThanSharedMemoryHolds) {
  SKIP_WITHOUT_GPU();
  if (short_cases()) {  // channels leave as little room
    take_as_small(500000);
    return run_attention(1, 7300, 20, 1, 1, DType::kF32);
  }
  run_attention(1, 8, 9000, 1, 1, DType::kF32);
  run_attention(2, 32, 1600, 1, 1, DType::kF32);
  run_attention(2, 32, 1600, 1, 1, DType::kF16);
}

struct Deformable {
  std::vector<int> sizes;
  int heads, points, channels, queries;
  std::int64_t images;
};

void run_deformable(const Deformable& c, float reach, DType type) {
  const DeformableAttention op{.heads = c.heads, .points = c.points, .queries = c.queries, .sizes = c.sizes};
  std::int64_t tokens = 0;
  for (std::size_t l = 0; l < c.sizes.size(); l += 2) tokens += std::int64_t{c.sizes[l]} * c.sizes[l + 1];
  const std::int64_t rows = c.images * c.queries, all = op.samples() * c.heads;
  // Boxes at the edge, and offsets far outside.
  expect_as_on_cpu({.op = op,
                    .inputs = {{rounded_to(random_tensor({c.images * tokens, c.channels}, -1, 1, 1), type)},
                               {random_tensor({rows, 2 * all}, -reach, reach, 2)},
                               {random_tensor({rows, all}, -3, 3, 3)},
                               {random_tensor({rows, 4}, 0, 1, 4)}}},
                   type == DType::kF32 ? 1e-5 : tolerance(type) / 2,
                   fmt::format("{} maps, {} heads, {} points, {} channels, {} queries, {}",
                               c.sizes.size() / 2, c.heads, c.points, c.channels, c.queries, name_of(type)));
}

TEST(CudaDeformableAttention, AsOnTheCpu) {
  SKIP_WITHOUT_GPU();
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16})
    for (const float reach : {1.0f, 8.0f})
      for (const Deformable& c : {Deformable{{1, 1}, 1, 1, 1, 1, 1},
                                  {{5, 7, 3, 4}, 2, 4, 6, 3, 2},
                                  {{8, 8, 4, 4, 2, 2}, 8, 4, 64, 10, 2},
                                  {{9, 13, 5, 7, 3, 4}, 8, 4, 256, 300, 2},
                                  {{6, 5, 3, 3}, 3, 20, 24, 5, 1},   // more samples than lanes
                                  {{4, 4, 2, 2}, 1, 2, 600, 3, 1}})  // more channels than lanes take at once
        run_deformable(c, reach, type);
}

TEST(CudaDeformableAttention, ThePyramidOfALargeModel) {
  SKIP_WITHOUT_GPU();
  for (const DType type : {DType::kF32, DType::kF16})
    run_deformable({{80, 80, 40, 40, 20, 20}, 8, 4, 256, 300, 1}, 4, type);
}

}  // namespace
}  // namespace osprey
