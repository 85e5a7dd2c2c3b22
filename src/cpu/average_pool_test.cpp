#include "ops/average_pool.h"

#include "cpu/testing.h"

namespace osprey::testing {
namespace {

// In double; the pads before the map and the result's extents are given.
struct Expected {
  AveragePool op;
  std::int64_t top, left, height, width;
};

Tensor reference(const Expected& e, const Tensor& x) {
  const std::int64_t h = x.dim(2), w = x.dim(3);
  Tensor out = Tensor::zeros(DType::kF32, {x.dim(0), x.dim(1), e.height, e.width});
  std::size_t at = 0;
  for (std::int64_t plane = 0; plane < x.dim(0) * x.dim(1); ++plane)
    for (std::int64_t v = 0; v < e.height; ++v)
      for (std::int64_t u = 0; u < e.width; ++u, ++at) {
        double sum = 0;
        int pixels = 0;
        for (int a = 0; a < e.op.kernel[0]; ++a)
          for (int b = 0; b < e.op.kernel[1]; ++b) {
            const std::int64_t r = v * e.op.stride[0] + a - e.top, c = u * e.op.stride[1] + b - e.left;
            const bool inside = r >= 0 && c >= 0 && r < h && c < w;
            if (inside) sum += x.values<float>()[static_cast<std::size_t>((plane * h + r) * w + c)];
            if (inside || e.op.count_padding) ++pixels;
          }
        out.mutable_values<float>()[at] = static_cast<float>(sum / pixels);
      }
  return out;
}

// Of maps of 9 x 8.
const std::vector<Expected> kCases{
    {{}, 0, 0, 4, 4},
    {{.padding = Padding::kSame}, 0, 0, 5, 4},
    {{.kernel = {3, 3}, .stride = {1, 1}, .padding = Padding::kSame}, 1, 1, 9, 8},
    {{.kernel = {3, 3}, .stride = {2, 2}, .padding = Padding::kSame, .count_padding = true}, 1, 0, 5, 4},
    {{.kernel = {3, 2}, .stride = {2, 1}, .pads = {1, 0, 0, 1}}, 1, 0, 4, 8},
    {{.kernel = {3, 2}, .stride = {2, 1}, .pads = {1, 0, 0, 1}, .count_padding = true}, 1, 0, 4, 8},
};

TEST(CpuAveragePool, MatchesItsDefinitionInEveryLayout) {
  for (const Expected& e : kCases)
    for (const std::int64_t channels : {1, 3, 24, 64})
      for (const int block : {0, 1, 8, 16})
        for (const DType type : {DType::kF32, DType::kBF16}) {
          const Tensor x = random_tensor({2, channels, 9, 8}, 5);
          OpCase c{e.op, {x}, {}, type};
          c.options.block = block;
          expect_near(run_case(c), reference(e, as_seen(x, type)), type == DType::kF32 ? 1e-6 : 8e-3,
                      fmt::format("{} channels, block {}, {}", channels, block, name_of(type)));
        }
}

}  // namespace
}  // namespace osprey::testing
