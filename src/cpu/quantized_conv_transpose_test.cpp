#include "ops/quantized_conv_transpose.h"

#include "cpu/kernel_harness.h"
#include "cpu/random_integers_test.h"
#include "cpu/testing.h"

namespace osprey::testing {
namespace {

struct Case {
  std::int64_t rows, channels, outputs, kh = 2, kw = 2;
  Activation activation = Activation::kRelu;
  bool bias = true;
  std::int64_t bound = 0;
};

// Every pixel of the result has one tap of one pixel.
void expect_as_defined(const Case& c, DType x_type, StoredType to) {
  constexpr std::int64_t kHeight = 5, kWidth = 4;
  const QuantizedConvTranspose op{.activation = c.activation, .to = to, .x_scale = 0.02f, .y_scale = 0.37f};
  const Shape shape{c.rows, c.channels, kHeight, kWidth};
  const Tensor x = x_type == DType::kI8 ? random_integers<std::int8_t>(shape, -128, 127, 1)
                                        : random_integers<std::uint8_t>(shape, 0, 255, 1),
               weight = random_integers<std::int8_t>({c.outputs, c.channels, c.kh, c.kw}, -127, 127, 2);
  Tensor scale = testing::random_tensor({c.outputs}, 3, 0.004f);
  for (float& v : scale.mutable_values<float>()) v = std::abs(v) + 1e-4f;
  const Tensor bias = c.bias ? testing::random_tensor({c.outputs}, 4, 2) : Tensor();
  const Tensor y = run_kernel({op, {{x, {0}, c.bound}, {weight}, {scale}, {bias}}, {0}, 2})[0];
  const std::string what =
      fmt::format("{} of {} rows, {} {} > {} {}, {}x{}", c.rows, c.bound, name_of(x_type), c.channels,
                  c.outputs, enum_names(to)[static_cast<std::size_t>(to)], c.kh, c.kw);
  const std::int64_t height = kHeight * c.kh, width = kWidth * c.kw;
  ASSERT_EQ(y.shape(), (Shape{c.rows, c.outputs, height, width})) << what;
  const double low = to == StoredType::kI8 ? -128 : 0, high = to == StoredType::kI8 ? 127 : 255;
  for (std::int64_t at = 0; at < y.size(); ++at) {
    const std::int64_t u = at % width, v = at / width % height, o = at / width / height % c.outputs,
                       n = at / width / height / c.outputs;
    std::int64_t sum = 0;
    for (std::int64_t i = 0; i < c.channels; ++i)
      sum += integer(x, ((n * c.channels + i) * kHeight + v / c.kh) * kWidth + u / c.kw) *
             integer(weight, ((o * c.channels + i) * c.kh + v % c.kh) * c.kw + u % c.kw);
    const auto channel = static_cast<std::size_t>(o);
    double exact = static_cast<double>(sum) * double{op.x_scale * scale.values<float>()[channel]};
    if (c.bias) exact += double{bias.values<float>()[channel]};
    if (c.activation == Activation::kRelu) exact = std::max(exact, 0.0);
    expect_stored(y, at, exact, to, op.y_scale, low, high, what);
    if (::testing::Test::HasFatalFailure()) return;
  }
}

TEST(CpuQuantizedConvTranspose, MatchesItsDefinition) {
  for (const Case& c : {Case{2, 32, 16}, {1, 16, 24, 2, 2, Activation::kNone, false}, {3, 9, 17, 1, 3}})
    for (const DType x : {DType::kI8, DType::kU8})
      for (const StoredType to : {StoredType::kF32, StoredType::kI8, StoredType::kU8})
        expect_as_defined(c, x, to);
}

TEST(CpuQuantizedConvTranspose, WorkFollowsTheRows) {
  for (const std::int64_t rows : {0, 1, 35, 40})
    expect_as_defined({rows, 32, 16, 2, 2, Activation::kRelu, true, 40}, DType::kU8, StoredType::kU8);
}

}  // namespace
}  // namespace osprey::testing
