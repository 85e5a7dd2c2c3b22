#include "ops/conv.h"

#include "cpu/testing.h"
#include "cpu/vectors.h"

namespace osprey::testing {
namespace {

struct ConvCase {
  std::string what;
  Conv op;
  std::int64_t channels, outputs, kernel, height, width;
  bool bias = true, residual = false, factor = false;
};

float activated(Activation kind, double v) {
  switch (kind) {
    case Activation::kRelu:
      return static_cast<float>(std::max(v, 0.0));
    case Activation::kSigmoid:
      return static_cast<float>(1 / (1 + std::exp(-v)));
    case Activation::kSwish:
      return static_cast<float>(v / (1 + std::exp(-v)));
    case Activation::kRelu6:
      return static_cast<float>(std::min(std::max(v, 0.0), 6.0));
    case Activation::kNone:
      break;
  }
  return static_cast<float>(v);
}

// The pads before the first row and column, and the result's extents.
struct Window {
  std::int64_t top, left, height, width;
};

Window window_of(const Conv& op, std::int64_t kernel, std::int64_t height, std::int64_t width) {
  const auto extent = [&](std::size_t axis, std::int64_t in) {
    if (op.padding == Padding::kSame) return (in + op.stride[axis] - 1) / op.stride[axis];
    return (in + op.pads[axis] + op.pads[axis + 2] - (kernel - 1) * op.dilation[axis] - 1) / op.stride[axis] +
           1;
  };
  // TensorFlow's rule, in its own words: what the windows reach beyond the map, half of it before.
  const auto before = [&](std::size_t axis, std::int64_t in) -> std::int64_t {
    if (op.padding == Padding::kExplicit) return op.pads[axis];
    const std::int64_t last = (extent(axis, in) - 1) * op.stride[axis];
    return std::max<std::int64_t>(last + (kernel - 1) * op.dilation[axis] + 1 - in, 0) / 2;
  };
  return {before(0, height), before(1, width), extent(0, height), extent(1, width)};
}

// The definition, in double.
Tensor reference(const Conv& op, const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& residual,
                 const Tensor& factor, const Tensor& offset, const Shape& shape) {
  Tensor out = Tensor::zeros(DType::kF32, shape);
  const View<const float, 4> in{x.values<float>().data(), {x.dim(0), x.dim(1), x.dim(2), x.dim(3)}};
  const View<const float, 4> k{w.values<float>().data(), {w.dim(0), w.dim(1), w.dim(2), w.dim(3)}};
  const Window window = window_of(op, w.dim(2), x.dim(2), x.dim(3));
  const std::int64_t each_in = w.dim(1), each_out = w.dim(0) / op.groups, s = op.residual_scale;
  std::size_t i = 0;
  for (std::int64_t n = 0; n < shape[0]; ++n)
    for (std::int64_t o = 0; o < shape[1]; ++o)
      for (std::int64_t v = 0; v < shape[2]; ++v)
        for (std::int64_t u = 0; u < shape[3]; ++u, ++i) {
          double sum = bias.empty() ? 0 : bias.values<float>()[static_cast<std::size_t>(o)];
          for (std::int64_t c = 0; c < each_in; ++c)
            for (std::int64_t a = 0; a < w.dim(2); ++a)
              for (std::int64_t b = 0; b < w.dim(3); ++b) {
                const std::int64_t r = v * op.stride[0] + a * op.dilation[0] - window.top;
                const std::int64_t q = u * op.stride[1] + b * op.dilation[1] - window.left;
                if (r < 0 || q < 0 || r >= x.dim(2) || q >= x.dim(3)) continue;
                sum += double{in(n, o / each_out * each_in + c, r, q)} * k(o, c, a, b);
              }
          if (!factor.empty())
            sum = sum * factor.values<float>()[static_cast<std::size_t>(o)] +
                  offset.values<float>()[static_cast<std::size_t>(o)];
          if (!residual.empty()) {
            const std::int64_t at = ((n * shape[1] + o) * (shape[2] / s) + v / s) * (shape[3] / s) + u / s;
            sum += residual.values<float>()[static_cast<std::size_t>(at)];
          }
          out.mutable_values<float>()[i] = activated(op.activation, sum);
        }
  return out;
}

const std::vector<ConvCase>& conv_cases() {
  static const std::vector<ConvCase> cases{
      {"1x1", {}, 24, 40, 1, 7, 9},
      {"3x3", {.pads = {1, 1, 1, 1}, .activation = Activation::kRelu}, 16, 32, 3, 9, 11},
      {"stem", {.stride = {2, 2}, .pads = {3, 3, 3, 3}, .activation = Activation::kRelu}, 3, 64, 7, 20, 24},
      {"1x1 stride 2", {.stride = {2, 2}}, 32, 64, 1, 8, 10},
      {"odd channels", {.pads = {1, 1, 1, 1}}, 8, 81, 3, 6, 5},
      {"three anchors", {}, 320, 3, 1, 5, 6},
      {"asymmetric pads", {.stride = {2, 2}, .pads = {0, 0, 1, 1}}, 16, 16, 3, 8, 12},
      {"dilated",
       {.dilation = {2, 2}, .pads = {2, 2, 2, 2}, .activation = Activation::kSwish},
       16,
       16,
       3,
       9,
       9},
      {"no bias", {.activation = Activation::kSigmoid}, 16, 24, 1, 5, 5, false},
      {"residual", {.pads = {1, 1, 1, 1}, .activation = Activation::kRelu}, 16, 16, 3, 8, 8, true, true},
      {"pyramid", {.residual_scale = 2}, 32, 48, 1, 8, 12, true, true},
      {"depthwise", {.pads = {1, 1, 1, 1}, .groups = 32}, 32, 32, 3, 8, 8},
      {"ResNeXt", {.pads = {1, 1, 1, 1}, .groups = 8, .activation = Activation::kRelu}, 64, 64, 3, 8, 8},
      {"narrow groups", {.pads = {1, 1, 1, 1}, .groups = 3}, 9, 12, 3, 6, 6},
      {"same, even", {.stride = {2, 2}, .padding = Padding::kSame}, 16, 24, 3, 8, 12},
      {"same, odd", {.stride = {2, 2}, .padding = Padding::kSame}, 16, 24, 3, 9, 13},
      {"same, skipping", {.stride = {3, 2}, .padding = Padding::kSame}, 16, 24, 1, 8, 10},
      {"same, even window", {.padding = Padding::kSame, .activation = Activation::kRelu6}, 16, 24, 2, 7, 5},
      {"same, dilated", {.dilation = {2, 2}, .padding = Padding::kSame}, 16, 16, 3, 9, 8},
      {"same stem",
       {.stride = {2, 2}, .padding = Padding::kSame, .activation = Activation::kSwish},
       3,
       32,
       3,
       20,
       25},
      {"same depthwise",
       {.stride = {2, 2}, .padding = Padding::kSame, .groups = 40, .activation = Activation::kSwish},
       40,
       40,
       5,
       14,
       11},
      {"depthwise with residual",
       {.padding = Padding::kSame, .groups = 24, .activation = Activation::kRelu6},
       24,
       24,
       3,
       9,
       7,
       true,
       true},
      {"depthwise, two each", {.padding = Padding::kSame, .groups = 16}, 16, 32, 3, 6, 7},
      {"wide groups", {.stride = {2, 2}, .pads = {1, 1, 1, 1}, .groups = 2}, 64, 96, 3, 8, 8},
      {"factors", {.activation = Activation::kSwish}, 24, 40, 1, 7, 9, false, false, true},
      {"factors, residual", {}, 48, 24, 1, 7, 9, true, true, true},
      {"factors, 3x3", {.pads = {1, 1, 1, 1}}, 64, 64, 3, 18, 20, true, false, true},
      {"depthwise factors",
       {.stride = {2, 2}, .padding = Padding::kSame, .groups = 40, .activation = Activation::kSwish},
       40,
       40,
       5,
       14,
       11,
       true,
       false,
       true},
  };
  return cases;
}

// Returns how the convolution was done.
std::string run_conv_case(const ConvCase& c, DType type, int block, std::int64_t rows, std::int64_t bound) {
  const Tensor x = random_tensor({rows, c.channels, c.height, c.width}, 1);
  const Tensor w = random_tensor({c.outputs, c.channels / c.op.groups, c.kernel, c.kernel}, 2, 0.3f);
  const Tensor bias = c.bias ? random_tensor({c.outputs}, 3) : Tensor();
  const Window window = window_of(c.op, c.kernel, c.height, c.width);
  const Shape y{rows, c.outputs, window.height, window.width};
  OpCase run{c.op, {x}, {w, bias}, type, bound};
  std::string detail;
  run.options.block = block, run.detail = &detail;
  Tensor residual;
  if (c.residual) {
    residual = random_tensor({rows, c.outputs, y[2] / c.op.residual_scale, y[3] / c.op.residual_scale}, 4);
    run.tail = {residual};
  }
  const Tensor factor = c.factor ? random_tensor({c.outputs}, 5, 3) : Tensor();
  const Tensor offset = c.factor ? random_tensor({c.outputs}, 6) : Tensor();
  if (c.factor) run.tail.resize(1), run.last = {factor, offset};
  const Tensor want =
      reference(c.op, as_seen(x, type), as_seen(w, type), bias, as_seen(residual, type), factor, offset, y);
  const std::string what =
      fmt::format("{}, {}, block {}, {} rows of {}", c.what, name_of(type), block, rows, bound);
  expect_near(run_case(run), want, type == DType::kF32 ? 2e-6 : 1e-2, what);
  return detail;
}

TEST(CpuConv, MatchesItsDefinition) {
  for (const ConvCase& c : conv_cases())
    for (const int block : {16, 8, 0})
      for (const DType type : {DType::kF32, DType::kBF16}) run_conv_case(c, type, block, 2, 0);
}

// By generated code, not by the reference's loops, which are a hundred times slower.
TEST(CpuConv, DepthwiseIsFast) {
  if (vector_set() == VectorSet::kBaseline) GTEST_SKIP() << "no AVX2";
  for (const int kernel : {3, 5})
    for (const int stride : {1, 2})
      for (const Activation kind : {Activation::kRelu6, Activation::kSwish})
        for (const std::int64_t channels : {32, 96, 144, 40}) {
          const ConvCase c{"depthwise",
                           {.stride = {stride, stride},
                            .padding = Padding::kSame,
                            .groups = static_cast<int>(channels),
                            .activation = kind},
                           channels,
                           channels,
                           kernel,
                           16,
                           15};
          const std::string how = run_conv_case(c, DType::kF32, 0, 1, 0);
          EXPECT_TRUE(how.find("jit") != std::string::npos || how.find("brdgmm") != std::string::npos) << how;
        }
}

TEST(CpuConv, WorkFollowsTheRows) {
  const ConvCase mask{"mask head", {.pads = {1, 1, 1, 1}, .activation = Activation::kRelu}, 32, 32, 3, 7, 7};
  for (const std::int64_t rows : {0, 1, 2, 3, 31, 33, 70, 100})
    for (const int block : {16, 0}) run_conv_case(mask, DType::kF32, block, rows, 100);
  run_conv_case(mask, DType::kBF16, 16, 45, 100);
  run_conv_case(mask, DType::kF32, 16, 5, 5);
}

// What takes Winograd's algorithm with the tile that a case names: sizes that no tile divides, channels that
// no chunk of a sum divides, pads, and everything that is fused.
const std::vector<std::pair<const char*, ConvCase>>& winograd_cases() {
  static const std::vector<std::pair<const char*, ConvCase>> cases{
      {"winograd 4x4", {"odd", {.pads = {1, 1, 1, 1}, .activation = Activation::kRelu}, 64, 64, 3, 17, 19}},
      {"winograd 4x4", {"no pads", {}, 80, 64, 3, 18, 18, false}},
      {"winograd 4x4", {"uneven pads", {.pads = {0, 1, 2, 0}}, 64, 96, 3, 16, 21}},
      {"winograd 4x4", {"residual", {.pads = {1, 1, 1, 1}}, 64, 96, 3, 15, 18, true, true}},
      {"winograd 4x4",
       {"pyramid",
        {.pads = {1, 1, 1, 1}, .activation = Activation::kRelu, .residual_scale = 2},
        64,
        64,
        3,
        18,
        22,
        true,
        true}},
      {"winograd 2x2",
       {"wide", {.pads = {1, 1, 1, 1}, .activation = Activation::kRelu}, 272, 256, 3, 15, 19, true, true}},
      {"winograd 4x4",
       {"same", {.padding = Padding::kSame, .activation = Activation::kRelu6}, 64, 64, 3, 17, 18}},
      {"winograd 2x2",
       {"wide pyramid", {.pads = {1, 1, 1, 1}, .residual_scale = 2}, 256, 288, 3, 16, 18, true, true}},
  };
  return cases;
}

TEST(CpuConv, WinogradMatchesTheDefinition) {
  for (const auto& [detail, c] : winograd_cases()) {
    const std::string got = run_conv_case(c, DType::kF32, 0, c.channels > 128 ? 1 : 2, 0);
    EXPECT_EQ(got.starts_with("winograd"), vector_set() == VectorSet::kAvx512) << c.what;
    if (got.starts_with("winograd")) {
      EXPECT_EQ(got, detail) << c.what;
    }
  }
}

TEST(CpuConv, WinogradFollowsTheRows) {
  const ConvCase mask{"mask head", {.pads = {1, 1, 1, 1}, .activation = Activation::kRelu}, 64, 64, 3, 7, 6};
  for (const std::int64_t rows : {0, 1, 2, 3, 31, 40}) {
    const std::string got = run_conv_case(mask, DType::kF32, 0, rows, 40);
    EXPECT_EQ(got.starts_with("winograd"), vector_set() == VectorSet::kAvx512);
  }
}

// Two images in a batch on two threads are, bit for bit, each alone on one.
TEST(CpuConv, WinogradDependsOnNeitherBatchNorThreads) {
  const std::int64_t c = 64, height = 33, width = 45, image = c * height * width;
  const Tensor x = random_tensor({2, c, height, width}, 1), w = random_tensor({c, c, 3, 3}, 2),
               bias = random_tensor({c}, 3);
  const Conv op{.pads = {1, 1, 1, 1}};
  const auto run = [&](const Tensor& in, int threads) {
    return run_case(
        {op, {in}, {w, bias}, DType::kF32, 0, {}, {.threads = threads, .block = 0, .guards = true}});
  };
  const Tensor both = run(x, 2);
  for (std::int64_t n = 0; n < 2; ++n) {
    const auto values =
        x.values<float>().subspan(static_cast<std::size_t>(n * image), static_cast<std::size_t>(image));
    const Tensor alone = run(Tensor::from<float>(values, {1, c, height, width}), 1);
    const auto part =
        both.values<float>().subspan(static_cast<std::size_t>(n * image), static_cast<std::size_t>(image));
    EXPECT_TRUE(std::equal(part.begin(), part.end(), alone.values<float>().begin())) << "image " << n;
  }
}

}  // namespace
}  // namespace osprey::testing
