#include "ops/max_pool.h"

#include "cpu/testing.h"

namespace osprey::testing {
namespace {

Tensor reference(const MaxPool& op, const Tensor& x) {
  const bool same = op.padding == Padding::kSame;
  const auto extent = [&](std::size_t axis) {
    if (same) return (x.dim(axis + 2) + op.stride[axis] - 1) / op.stride[axis];
    return (x.dim(axis + 2) + op.pads[axis] + op.pads[axis + 2] - op.kernel[axis]) / op.stride[axis] + 1;
  };
  Tensor out = Tensor::zeros(DType::kF32, {x.dim(0), x.dim(1), extent(0), extent(1)});
  const std::int64_t h = x.dim(2), w = x.dim(3);
  const auto before = [&](std::size_t axis) {
    const std::int64_t beyond =
        (extent(axis) - 1) * op.stride[axis] + op.kernel[axis] - x.dim(axis + 2);  // of TensorFlow's SAME
    return same ? std::max<std::int64_t>(beyond, 0) / 2 : op.pads[axis];
  };
  std::size_t at = 0;
  for (std::int64_t plane = 0; plane < x.dim(0) * x.dim(1); ++plane)
    for (std::int64_t v = 0; v < out.dim(2); ++v)
      for (std::int64_t u = 0; u < out.dim(3); ++u, ++at) {
        float best = -INFINITY;
        for (int a = 0; a < op.kernel[0]; ++a)
          for (int b = 0; b < op.kernel[1]; ++b) {
            const std::int64_t r = v * op.stride[0] + a - before(0), c = u * op.stride[1] + b - before(1);
            if (r < 0 || c < 0 || r >= h || c >= w) continue;
            best = std::max(best, x.values<float>()[static_cast<std::size_t>((plane * h + r) * w + c)]);
          }
        out.mutable_values<float>()[at] = best;
      }
  return out;
}

TEST(CpuMaxPool, MatchesItsDefinitionInEveryLayout) {
  const std::vector<MaxPool> ops{{.pads = {1, 1, 1, 1}},
                                 {.kernel = {1, 1}},
                                 {.kernel = {5, 5}, .stride = {1, 1}, .pads = {2, 2, 2, 2}},
                                 {.padding = Padding::kSame},
                                 {.kernel = {2, 2}, .padding = Padding::kSame},
                                 {.kernel = {4, 5}, .stride = {3, 4}, .padding = Padding::kSame},
                                 {.kernel = {3, 2}, .stride = {2, 1}, .pads = {0, 0, 1, 1}}};
  for (const MaxPool& op : ops)
    for (const std::int64_t channels : {1, 3, 24, 64})
      for (const int block : {0, 1, 8, 16})
        for (const DType type : {DType::kF32, DType::kBF16}) {
          const Tensor x = random_tensor({2, channels, 9, 8}, 5);
          OpCase c{op, {x}, {}, type};
          c.options.block = block;
          // A maximum is exact.
          expect_near(run_case(c), reference(op, as_seen(x, type)), 0,
                      fmt::format("{} channels, block {}", channels, block));
        }
}

}  // namespace
}  // namespace osprey::testing
