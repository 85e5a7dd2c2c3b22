#include "ops/linear.h"

#include "cpu/testing.h"

namespace osprey::testing {
namespace {

Tensor reference(const Linear& op, const Tensor& x, const Tensor& w, const Tensor& bias) {
  Tensor out = Tensor::zeros(DType::kF32, {x.dim(0), w.dim(0)});
  const std::int64_t n = w.dim(1);
  for (std::int64_t r = 0; r < x.dim(0); ++r)
    for (std::int64_t o = 0; o < w.dim(0); ++o) {
      double sum = bias.empty() ? 0 : bias.values<float>()[static_cast<std::size_t>(o)];
      for (std::int64_t i = 0; i < n; ++i)
        sum += double{x.values<float>()[static_cast<std::size_t>(r * n + i)]} *
               w.values<float>()[static_cast<std::size_t>(o * n + i)];
      if (op.activation == Activation::kRelu) sum = std::max(sum, 0.0);
      out.mutable_values<float>()[static_cast<std::size_t>(r * w.dim(0) + o)] = static_cast<float>(sum);
    }
  return out;
}

void run_linear(std::int64_t rows, std::int64_t bound, std::int64_t in, std::int64_t outputs, bool bias,
                DType type) {
  const Linear op{.activation = bias ? Activation::kRelu : Activation::kNone};
  const Tensor x = random_tensor({rows, in}, 1), w = random_tensor({outputs, in}, 2, 0.2f);
  const Tensor b = bias ? random_tensor({outputs}, 3) : Tensor();
  const Tensor got = run_case({op, {x}, {w, b}, type, bound});
  expect_near(got, reference(op, as_seen(x, type), as_seen(w, type), b), type == DType::kF32 ? 3e-6 : 1e-2,
              fmt::format("{} of {} rows, {} -> {}, {}", rows, bound, in, outputs, name_of(type)));
}

TEST(CpuLinear, MatchesItsDefinition) {
  for (const DType type : {DType::kF32, DType::kBF16}) {
    run_linear(1, 0, 7, 3, true, type);
    run_linear(50, 0, 320, 81, true, type);
    run_linear(33, 0, 64, 24, false, type);
  }
}

TEST(CpuLinear, WorkFollowsTheRows) {
  for (const std::int64_t rows : {0, 1, 15, 16, 17, 100, 250, 300, 511, 999, 1000})
    run_linear(rows, 1000, 40, 24, true, DType::kF32);
  for (const std::int64_t rows : {0, 1, 5}) run_linear(rows, 5, 40, 24, true, DType::kBF16);
}

}  // namespace
}  // namespace osprey::testing
