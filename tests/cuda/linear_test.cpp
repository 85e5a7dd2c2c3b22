// Fully connected layers against the CPU's.
#include "ops/linear.h"

#include "cuda/cuda_harness.h"

namespace osprey {
namespace {

double tolerance(DType out) { return out == DType::kF16 ? 0x1p-10 : out == DType::kBF16 ? 0x1p-7 : 3e-6; }

void run_linear(const Linear& op, std::int64_t rows, std::int64_t bound, std::int64_t in,
                std::int64_t outputs, bool bias, DType type) {
  KernelCase test{.op = op, .inputs = {}};
  test.inputs.push_back({rounded_to(random_tensor({rows, in}, -1, 1, 1), type), {}, bound});
  test.inputs.push_back({rounded_to(random_tensor({outputs, in}, -0.2f, 0.2f, 2), type)});
  test.inputs.push_back({bias ? random_tensor({outputs}, -1, 1, 3) : Tensor()});
  expect_as_on_cpu(
      test, tolerance(op.f32_out ? DType::kF32 : type),
      fmt::format("{} of {} rows, {} -> {}, {}, bias {}, {}", rows, bound, in, outputs, name_of(type), bias,
                  kActivationNames[static_cast<std::size_t>(op.activation)]));
}

TEST(CudaLinear, AsOnTheCpu) {
  SKIP_WITHOUT_GPU();
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16})
    for (const Activation activation : {Activation::kNone, Activation::kRelu, Activation::kSigmoid})
      for (const bool f32_out : {false, true})
        for (const bool bias : {false, true}) {
          const Linear op{.activation = activation, .f32_out = f32_out};
          run_linear(op, 1, 0, 7, 3, bias, type);
          run_linear(op, 50, 0, 320, 81, bias, type);
          run_linear(op, 33, 0, 64, 24, bias, type);
        }
}

TEST(CudaLinear, RowsOfABound) {
  SKIP_WITHOUT_GPU();
  for (const std::int64_t rows : {0, 1, 999, 1000})
    for (const DType type : {DType::kF32, DType::kF16})
      run_linear({.activation = Activation::kRelu}, rows, 1000, 256, 96, true, type);
}

}  // namespace
}  // namespace osprey
