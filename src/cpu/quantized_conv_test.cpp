#include "ops/quantized_conv.h"

#include "cpu/kernel_harness.h"
#include "cpu/random_integers_test.h"
#include "cpu/testing.h"

namespace osprey::testing {
namespace {

Tensor integers_of(DType type, const Shape& shape, unsigned seed) {
  return type == DType::kI8 ? random_integers<std::int8_t>(shape, -127, 127, seed)
                            : random_integers<std::uint8_t>(shape, 0, 255, seed);
}

// Any 8-bit or f32 tensor as f32.
std::vector<float> numbers(const Tensor& t) {
  std::vector<float> out(static_cast<std::size_t>(t.size()));
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = t.dtype() == DType::kI8   ? t.values<std::int8_t>()[i]
             : t.dtype() == DType::kU8 ? t.values<std::uint8_t>()[i]
                                       : t.values<float>()[i];
  return out;
}

struct Case {
  std::string what;
  QuantizedConv op;
  std::int64_t channels, outputs, kernel, height, width;
  bool bias = true, residual = false;
};

struct Inputs {
  Tensor x, weight, scale, bias, residual;
};

// What the header says, before it is stored: an exact sum, then f32 (here double, for a tie's sake).
std::vector<double> definition(const Case& c, const Inputs& in, const Shape& shape) {
  const auto window = c.op.window(c.kernel, c.kernel);
  const auto pads = window.pads_of(c.height, c.width);
  const auto x = numbers(in.x), w = numbers(in.weight), residual = numbers(in.residual);
  const std::int64_t each_in = in.weight.dim(1), each_out = c.outputs / c.op.groups,
                     up = c.op.residual_upsampling;
  std::vector<double> out;
  for (std::int64_t n = 0; n < shape[0]; ++n)
    for (std::int64_t o = 0; o < shape[1]; ++o)
      for (std::int64_t v = 0; v < shape[2]; ++v)
        for (std::int64_t u = 0; u < shape[3]; ++u) {
          std::int64_t sum = 0;
          for (std::int64_t i = 0; i < each_in; ++i)
            for (std::int64_t a = 0; a < c.kernel; ++a)
              for (std::int64_t b = 0; b < c.kernel; ++b) {
                const std::int64_t r = v * c.op.stride[0] + a * c.op.dilation[0] - pads[0],
                                   q = u * c.op.stride[1] + b * c.op.dilation[1] - pads[1];
                if (r < 0 || q < 0 || r >= c.height || q >= c.width) continue;
                const std::int64_t channel = o / each_out * each_in + i;
                const auto at =
                    static_cast<std::size_t>(((n * c.channels + channel) * c.height + r) * c.width + q);
                const auto tap = static_cast<std::size_t>(((o * each_in + i) * c.kernel + a) * c.kernel + b);
                sum += static_cast<std::int64_t>(x[at]) * static_cast<std::int64_t>(w[tap]);
              }
          const auto channel = static_cast<std::size_t>(o);
          double y = static_cast<double>(sum) * double{c.op.x_scale * in.scale.values<float>()[channel]};
          if (c.bias) y += in.bias.values<float>()[channel];
          if (c.residual) {
            const std::int64_t at =
                ((n * shape[1] + o) * (shape[2] / up) + v / up) * (shape[3] / up) + u / up;
            y += residual[static_cast<std::size_t>(at)] *
                 (is_integer(c.op.to) ? double{c.op.residual_scale} : 1.0);
          }
          switch (c.op.activation) {
            case Activation::kRelu:
              y = std::max(y, 0.0);
              break;
            case Activation::kRelu6:
              y = std::min(std::max(y, 0.0), 6.0);
              break;
            case Activation::kSwish:
              y = y / (1 + std::exp(-y));
              break;
            case Activation::kSigmoid:
              y = 1 / (1 + std::exp(-y));
              break;
            case Activation::kNone:
              break;
          }
          out.push_back(y);
        }
  return out;
}

// Integers are the nearest ones; f32 may take the other only where the exact value is a tie but for rounding.
void expect_stored(const Tensor& got, const std::vector<double>& want, const QuantizedConv& op,
                   const std::string& what) {
  ASSERT_EQ(static_cast<std::size_t>(got.size()), want.size()) << what;
  const auto values = numbers(got);
  double largest = 1;
  for (const double v : want) largest = std::max(largest, std::abs(v));
  const double low = op.to == StoredType::kI8 ? -128 : 0, high = op.to == StoredType::kI8 ? 127 : 255;
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (is_integer(op.to)) {
      const double exact = std::min(std::max(want[i] / double{op.y_scale}, low), high);
      ASSERT_LE(std::abs(values[i] - exact), 0.5 + 1e-4) << what << ", element " << i;
    } else {
      ASSERT_NEAR(values[i], want[i], 1e-6 * largest) << what << ", element " << i;
    }
  }
}

std::string run(const Case& c, DType x_type, CpuLayout layout, std::int64_t rows, std::int64_t bound = 0,
                DType residual_type = DType::kU8) {
  const auto window = c.op.window(c.kernel, c.kernel);
  const auto extent = [&](std::size_t axis, std::int64_t in) { return window.extent(axis, in).constant(); };
  const Shape y{rows, c.outputs, extent(0, c.height), extent(1, c.width)};
  Inputs in{
      integers_of(x_type, {rows, c.channels, c.height, c.width}, 1),
      random_integers<std::int8_t>({c.outputs, c.channels / c.op.groups, c.kernel, c.kernel}, -127, 127, 2),
      testing::random_tensor({c.outputs}, 3, 0.004f),
      c.bias ? testing::random_tensor({c.outputs}, 4, 2) : Tensor(),
      {}};
  for (float& v : in.scale.mutable_values<float>()) v = std::abs(v) + 1e-4f;
  if (c.residual) {
    const std::int64_t up = c.op.residual_upsampling;
    const Shape shape{rows, c.outputs, y[2] / up, y[3] / up};
    in.residual =
        is_integer(c.op.to) ? integers_of(residual_type, shape, 5) : testing::random_tensor(shape, 5);
  }
  KernelCase test{c.op, {{in.x, layout, bound}, {in.weight}, {in.scale}, {in.bias}}, layout, 2};
  if (c.residual) test.inputs.push_back({in.residual, layout, bound});
  const std::string what =
      fmt::format("{}, x {}, y {}, layout {}, {} rows of {}", c.what, name_of(x_type),
                  enum_names(c.op.to)[static_cast<std::size_t>(c.op.to)], layout.block, rows, bound);
  expect_stored(run_kernel(test)[0], definition(c, in, y), c.op, what);
  return what;
}

const std::vector<Case>& cases() {
  static const std::vector<Case> all{
      {"1x1", {}, 24, 40, 1, 7, 9},
      {"3x3", {.pads = {1, 1, 1, 1}, .activation = Activation::kRelu}, 16, 32, 3, 9, 11},
      {"stem", {.stride = {2, 2}, .pads = {3, 3, 3, 3}, .activation = Activation::kRelu}, 3, 64, 7, 20, 24},
      {"odd channels", {.pads = {1, 1, 1, 1}}, 9, 81, 3, 6, 5},
      {"dilated",
       {.dilation = {2, 2}, .pads = {2, 2, 2, 2}, .activation = Activation::kSwish},
       16,
       16,
       3,
       9,
       9},
      {"no bias", {.activation = Activation::kSigmoid}, 16, 24, 1, 5, 5, false},
      {"residual", {.pads = {1, 1, 1, 1}, .activation = Activation::kRelu}, 16, 16, 3, 8, 8, true, true},
      {"pyramid", {.residual_upsampling = 2}, 32, 48, 1, 8, 12, true, true},
      {"depthwise", {.pads = {1, 1, 1, 1}, .groups = 32}, 32, 32, 3, 8, 8, false},
      {"same depthwise",
       {.stride = {2, 2}, .padding = Padding::kSame, .groups = 40, .activation = Activation::kRelu6},
       40,
       40,
       5,
       14,
       11},
      {"depthwise with residual", {.padding = Padding::kSame, .groups = 24}, 24, 24, 3, 9, 7, true, true},
      {"narrow groups", {.pads = {1, 1, 1, 1}, .groups = 4}, 16, 16, 3, 6, 6},
      {"wide groups", {.stride = {2, 2}, .pads = {1, 1, 1, 1}, .groups = 2}, 64, 96, 3, 8, 8},
  };
  return all;
}

TEST(CpuQuantizedConv, MatchesItsDefinition) {
  for (Case c : cases())
    for (const DType x : {DType::kI8, DType::kU8})
      for (const StoredType to : {StoredType::kF32, StoredType::kI8, StoredType::kU8}) {
        c.op.to = to;
        c.op.x_scale = 0.02f, c.op.y_scale = 0.37f, c.op.residual_scale = 0.11f;
        run(c, x, {0}, 2);
      }
}

TEST(CpuQuantizedConv, ASignedResidualAddsToAnUnsignedResult) {
  Case c{
      "residual", {.activation = Activation::kRelu, .to = StoredType::kU8, .x_scale = 0.02f, .y_scale = 0.4f},
      16,         32,
      1,          8,
      8,          true,
      true};
  c.op.residual_scale = 0.2f;
  for (const DType residual : {DType::kI8, DType::kU8})
    for (const StoredType to : {StoredType::kI8, StoredType::kU8}) {
      c.op.to = to;
      run(c, DType::kU8, {0}, 1, 0, residual);
    }
}

TEST(CpuQuantizedConv, WorkFollowsTheRows) {
  const Case c{"mask head",
               {.pads = {1, 1, 1, 1}, .activation = Activation::kRelu, .to = StoredType::kU8, .y_scale = 30},
               32,
               32,
               3,
               7,
               7};
  for (const std::int64_t rows : {0, 1, 3, 33, 70}) run(c, DType::kU8, {0}, rows, 100);
}

TEST(CpuQuantizedConv, RefusesAFloatResidualOfAnIntegerResult) {
  Graph graph;
  const ValueId x = graph.add_input("x", {DType::kI8, {1, 4, 3, 3}}),
                residual = graph.add_input("r", {DType::kF32, {1, 4, 3, 3}}),
                w = graph.add_weight("w", Tensor::zeros(DType::kI8, {4, 4, 1, 1})),
                scale = graph.add_weight("s", Tensor::zeros(DType::kF32, {4}));
  EXPECT_THROW(graph.add_node(QuantizedConv{.to = StoredType::kI8}, {x, w, scale, kNoValue, residual}, "y"),
               Error);
  graph.add_node(QuantizedConv{}, {x, w, scale, kNoValue, residual}, "z");
}

}  // namespace
}  // namespace osprey::testing
