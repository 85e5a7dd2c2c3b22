// Fully connected layers of integers against the CPU's.
#include "ops/quantized_linear.h"

#include <cmath>

#include "cuda/cuda_harness.h"
#include "cuda/integer_results.h"

namespace osprey {
namespace {

struct Case {
  std::int64_t rows, inputs, outputs;
  Activation activation = Activation::kNone;
  bool bias = true;
  std::int64_t bound = 0;
};

void expect_right(const Case& c, DType x_type, StoredType to) {
  const float spread = 1 / std::sqrt(static_cast<float>(c.inputs));
  const KernelCase test{
      .op = QuantizedLinear{.activation = c.activation, .to = to, .x_scale = 1.3f, .y_scale = 0.037f},
      .inputs = {{random_integers(x_type, {c.rows, c.inputs}, 1), {}, c.bound},
                 {random_integers(DType::kI8, {c.outputs, c.inputs}, 2)},
                 {random_tensor({c.outputs}, 2e-4f * spread, 6e-4f * spread, 3)},
                 {c.bias ? random_tensor({c.outputs}, -2, 2, 4) : Tensor()}}};
  const std::string what = fmt::format("{} of {} rows, {} {} > {} {}", c.rows, c.bound, name_of(x_type),
                                       c.inputs, c.outputs, enum_names(to)[static_cast<std::size_t>(to)]);
  const auto got = run_cuda(test), want = run_oracle(test);
  if (is_integer(to))
    expect_almost_all_equal(got[0], want[0], what);
  else
    expect_close(got, want, to == StoredType::kF16 ? 0x1p-11 : 1e-6, what);
}

TEST(CudaQuantizedLinear, AsOnTheCpu) {
  SKIP_WITHOUT_GPU();
  for (const Case& c : {Case{1, 7, 3},
                        {50, 320, 81, Activation::kRelu},
                        {33, 64, 24, Activation::kNone, false},
                        {300, 256, 1024, Activation::kRelu},
                        {2, 1000, 40}})
    for (const DType x : {DType::kI8, DType::kU8})
      for (const StoredType to : {StoredType::kF32, StoredType::kF16, StoredType::kI8, StoredType::kU8})
        expect_right(c, x, to);
}

TEST(CudaQuantizedLinear, RowsOfABound) {
  SKIP_WITHOUT_GPU();
  take_as_small(60000);
  for (const std::int64_t rows : {0, 1, 127, 128, 999, 1000})
    expect_right({rows, 256, 96, Activation::kRelu, true, 1000}, DType::kU8, StoredType::kU8);
  for (const std::int64_t rows : {0, 1, 999, 1000})
    expect_right({rows, 12544, 64, Activation::kRelu, true, 1000}, DType::kI8, StoredType::kF16);
}

}  // namespace
}  // namespace osprey
