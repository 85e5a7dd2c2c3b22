#include "ops/quantized_linear.h"

#include "cpu/kernel_harness.h"
#include "cpu/random_integers_test.h"
#include "cpu/testing.h"

namespace osprey::testing {
namespace {

double activated(double v, Activation kind) {
  switch (kind) {
    case Activation::kRelu:
      return std::max(v, 0.0);
    case Activation::kRelu6:
      return std::clamp(v, 0.0, 6.0);
    case Activation::kSigmoid:
      return 1 / (1 + std::exp(-v));
    case Activation::kSwish:
      return v / (1 + std::exp(-v));
    case Activation::kNone:
      break;
  }
  return v;
}

struct Case {
  std::int64_t rows, inputs, outputs;
  Activation activation = Activation::kNone;
  bool bias = true;
  std::int64_t bound = 0;
};

// An exact sum, then double. Integers are the nearest ones; f32 may take the other only where the exact value
// is a tie but for rounding.
void expect_as_defined(const Case& c, DType x_type, StoredType to) {
  const QuantizedLinear op{.activation = c.activation, .to = to, .x_scale = 0.02f, .y_scale = 0.37f};
  const Tensor x = x_type == DType::kI8 ? random_integers<std::int8_t>({c.rows, c.inputs}, -128, 127, 1)
                                        : random_integers<std::uint8_t>({c.rows, c.inputs}, 0, 255, 1),
               weight = random_integers<std::int8_t>({c.outputs, c.inputs}, -127, 127, 2);
  Tensor scale = testing::random_tensor({c.outputs}, 3, 0.004f);
  for (float& v : scale.mutable_values<float>()) v = std::abs(v) + 1e-4f;
  const Tensor bias = c.bias ? testing::random_tensor({c.outputs}, 4, 2) : Tensor();
  const KernelCase test{op, {{x, {}, c.bound}, {weight}, {scale}, {bias}}, {}, 2};
  const Tensor y = run_kernel(test)[0];
  const std::string what = fmt::format("{} of {} rows, {} {} > {} {}", c.rows, c.bound, name_of(x_type),
                                       c.inputs, c.outputs, enum_names(to)[static_cast<std::size_t>(to)]);
  ASSERT_EQ(y.shape(), (Shape{c.rows, c.outputs})) << what;
  const double low = to == StoredType::kI8 ? -128 : 0, high = to == StoredType::kI8 ? 127 : 255;
  for (std::int64_t r = 0; r < c.rows; ++r)
    for (std::int64_t o = 0; o < c.outputs; ++o) {
      std::int64_t sum = 0;
      for (std::int64_t i = 0; i < c.inputs; ++i)
        sum += integer(x, r * c.inputs + i) * integer(weight, o * c.inputs + i);
      const auto channel = static_cast<std::size_t>(o);
      const double exact =
          activated(static_cast<double>(sum) * double{op.x_scale * scale.values<float>()[channel]} +
                        (c.bias ? double{bias.values<float>()[channel]} : 0),
                    c.activation);
      const std::int64_t at = r * c.outputs + o;
      expect_stored(y, at, exact, to, op.y_scale, low, high, what);
      if (::testing::Test::HasFatalFailure()) return;
    }
}

TEST(CpuQuantizedLinear, MatchesItsDefinition) {
  for (const Case& c : {Case{1, 7, 3},
                        {50, 320, 81, Activation::kRelu},
                        {33, 64, 24, Activation::kSwish, false},
                        {2, 1000, 40, Activation::kRelu6},
                        {17, 33, 16, Activation::kSigmoid}})
    for (const DType x : {DType::kI8, DType::kU8})
      for (const StoredType to : {StoredType::kF32, StoredType::kI8, StoredType::kU8})
        expect_as_defined(c, x, to);
}

TEST(CpuQuantizedLinear, WorkFollowsTheRows) {
  for (const std::int64_t rows : {0, 1, 15, 16, 17, 100, 250, 511, 999, 1000})
    expect_as_defined({rows, 40, 24, Activation::kRelu, true, 1000}, DType::kU8, StoredType::kU8);
  for (const std::int64_t rows : {0, 1, 5})
    expect_as_defined({rows, 40, 24, Activation::kNone, true, 5}, DType::kI8, StoredType::kF32);
}

TEST(CpuQuantizedLinear, RefusesFloats) {
  Graph graph;
  const ValueId x = graph.add_input("x", {DType::kF32, {1, 4}}),
                w = graph.add_weight("w", Tensor::zeros(DType::kI8, {3, 4})),
                scale = graph.add_weight("s", Tensor::zeros(DType::kF32, {3}));
  EXPECT_THROW(graph.add_node(QuantizedLinear{}, {x, w, scale}, "y"), Error);
}

}  // namespace
}  // namespace osprey::testing
