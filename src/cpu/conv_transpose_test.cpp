#include "ops/conv_transpose.h"

#include "cpu/testing.h"

namespace osprey::testing {
namespace {

// Scatters every input pixel over its window, in double.
Tensor reference(const ConvTranspose& op, const Tensor& x, const Tensor& w, const Tensor& bias) {
  const std::int64_t c = w.dim(0), o = w.dim(1), kh = w.dim(2), kw = w.dim(3);
  const std::int64_t h = (x.dim(2) - 1) * op.stride[0] + kh - op.pads[0] - op.pads[2];
  const std::int64_t width = (x.dim(3) - 1) * op.stride[1] + kw - op.pads[1] - op.pads[3];
  Tensor out = Tensor::zeros(DType::kF32, {x.dim(0), o, h, width});
  std::vector<double> sums(static_cast<std::size_t>(out.size()));
  const View<const float, 4> in{x.values<float>().data(), {x.dim(0), c, x.dim(2), x.dim(3)}};
  const View<const float, 4> k{w.values<float>().data(), {c, o, kh, kw}};
  const View<double, 4> sum{sums.data(), {x.dim(0), o, h, width}};
  for (std::int64_t n = 0; n < x.dim(0); ++n)
    for (std::int64_t i = 0; i < c; ++i)
      for (std::int64_t r = 0; r < x.dim(2); ++r)
        for (std::int64_t q = 0; q < x.dim(3); ++q)
          for (std::int64_t m = 0; m < o; ++m)
            for (std::int64_t a = 0; a < kh; ++a)
              for (std::int64_t b = 0; b < kw; ++b) {
                const std::int64_t v = r * op.stride[0] + a - op.pads[0],
                                   u = q * op.stride[1] + b - op.pads[1];
                if (v >= 0 && u >= 0 && v < h && u < width)
                  sum(n, m, v, u) += double{in(n, i, r, q)} * k(i, m, a, b);
              }
  for (std::int64_t i = 0; i < out.size(); ++i) {
    double v = sums[static_cast<std::size_t>(i)];
    if (!bias.empty()) v += bias.values<float>()[static_cast<std::size_t>(i / (h * width) % o)];
    if (op.activation == Activation::kRelu) v = std::max(v, 0.0);
    out.mutable_values<float>()[static_cast<std::size_t>(i)] = static_cast<float>(v);
  }
  return out;
}

struct TransposeCase {
  ConvTranspose op;
  std::int64_t channels, outputs, kernel;
  bool bias = true;
};

TEST(CpuConvTranspose, MatchesItsDefinition) {
  const std::vector<TransposeCase> cases{
      {{.activation = Activation::kRelu}, 32, 16, 2},
      {{.activation = Activation::kRelu}, 16, 24, 2},
      {{}, 8, 17, 2, false},
      {{.pads = {1, 1, 1, 1}}, 16, 17, 4},
      {{.pads = {1, 1, 1, 1}}, 64, 17, 4},
      {{.pads = {1, 1, 1, 1}, .activation = Activation::kRelu}, 512, 32, 4},
      {{.stride = {1, 1}, .pads = {1, 1, 1, 1}}, 16, 16, 3},
  };
  for (const TransposeCase& c : cases)
    for (const int block : {0, 8, 16})
      for (const DType type : {DType::kF32, DType::kBF16})
        for (const std::int64_t rows :
             c.kernel == 2 ? std::vector<std::int64_t>{0, 1, 35} : std::vector<std::int64_t>{3}) {
          const Tensor x = random_tensor({rows, c.channels, 5, 4}, 1);
          const Tensor w = random_tensor({c.channels, c.outputs, c.kernel, c.kernel}, 2, 0.3f);
          const Tensor b = c.bias ? random_tensor({c.outputs}, 3) : Tensor();
          OpCase run{c.op, {x}, {w, b}, type, 40};
          run.options.block = block;
          expect_near(run_case(run), reference(c.op, as_seen(x, type), as_seen(w, type), b),
                      type == DType::kF32 ? 2e-6 : 1e-2,
                      fmt::format("{} -> {}, kernel {}, block {}, {} rows", c.channels, c.outputs, c.kernel,
                                  block, rows));
        }
}

}  // namespace
}  // namespace osprey::testing
