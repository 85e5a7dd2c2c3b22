// Convolutions in every type and way of fusing, against the CPU's.
#include "ops/conv.h"

#include "cuda/cuda_harness.h"

namespace osprey {
namespace {

struct ConvCase {
  std::string what;
  Conv op;
  std::int64_t channels, outputs, kernel, height, width;
  bool bias = true, residual = false;
};

const std::vector<ConvCase>& conv_cases() {
  const std::vector<int> same{1, 1, 1, 1};
  static const std::vector<ConvCase> cases{
      {"1x1", {}, 24, 40, 1, 7, 9},
      {"1x1 to one channel", {.activation = Activation::kRelu}, 8, 1, 1, 1, 1},
      {"3x3", {.pads = same, .activation = Activation::kRelu}, 16, 32, 3, 9, 11},
      {"3x3 without activation", {.pads = same}, 256, 256, 3, 12, 13},
      {"stem", {.stride = {2, 2}, .pads = {3, 3, 3, 3}, .activation = Activation::kRelu}, 3, 64, 7, 20, 24},
      {"1x1 stride 2", {.stride = {2, 2}}, 32, 64, 1, 8, 10},
      {"1x1 stride 2, odd", {.stride = {2, 2}, .activation = Activation::kRelu}, 64, 128, 1, 9, 7},
      {"odd outputs", {.pads = same}, 8, 81, 3, 6, 5},
      {"odd inputs", {.pads = same, .activation = Activation::kRelu}, 5, 16, 3, 6, 5},
      {"three anchors", {.f32_out = true}, 320, 3, 1, 5, 6},
      {"box deltas", {.f32_out = true}, 256, 12, 1, 5, 6},
      {"box deltas, 3x3", {.pads = same, .f32_out = true}, 64, 36, 3, 7, 6},
      {"scores", {.pads = same, .activation = Activation::kSigmoid, .f32_out = true}, 64, 720, 3, 7, 6},
      {"asymmetric pads", {.stride = {2, 2}, .pads = {0, 0, 1, 1}}, 16, 16, 3, 8, 12},
      {"uneven", {.stride = {1, 2}, .dilation = {2, 1}, .pads = {2, 1, 1, 0}}, 16, 24, 3, 9, 8},
      {"dilated",
       {.dilation = {2, 2}, .pads = {2, 2, 2, 2}, .activation = Activation::kSwish},
       16,
       16,
       3,
       9,
       9},
      {"1x1 swish", {.activation = Activation::kSwish}, 16, 24, 1, 5, 5},
      {"no bias", {.activation = Activation::kSigmoid}, 16, 24, 1, 5, 5, false},
      {"3x3 no bias", {.pads = same, .activation = Activation::kRelu}, 16, 24, 3, 5, 5, false},
      {"residual", {.pads = same, .activation = Activation::kRelu}, 16, 16, 3, 8, 8, true, true},
      {"residual alone", {.pads = same}, 16, 16, 3, 8, 8, false, true},
      {"1x1 residual", {.activation = Activation::kRelu}, 64, 256, 1, 8, 7, true, true},
      {"pyramid", {.residual_scale = 2}, 32, 48, 1, 8, 12, true, true},
      {"pyramid, odd channels",
       {.activation = Activation::kRelu, .residual_scale = 2},
       16,
       7,
       1,
       4,
       6,
       true,
       true},
      {"depthwise", {.pads = same, .groups = 32}, 32, 32, 3, 8, 8},
      {"ResNeXt 32x8d", {.pads = same, .groups = 32, .activation = Activation::kRelu}, 256, 256, 3, 8, 8},
      {"same, even",
       {.stride = {2, 2}, .padding = Padding::kSame, .activation = Activation::kRelu6},
       16,
       24,
       3,
       8,
       12},
      {"same, odd", {.stride = {2, 2}, .padding = Padding::kSame}, 16, 24, 3, 9, 13},
      {"same, even window", {.padding = Padding::kSame, .activation = Activation::kRelu6}, 16, 24, 2, 7, 5},
      {"same stem",
       {.stride = {2, 2}, .padding = Padding::kSame, .activation = Activation::kSwish},
       3,
       32,
       3,
       20,
       25},
      {"same 1x1", {.padding = Padding::kSame, .activation = Activation::kRelu6}, 32, 96, 1, 9, 7},
      {"relu6 after a residual", {.activation = Activation::kRelu6}, 32, 64, 1, 6, 7, true, true},
      {"depthwise, two each", {.padding = Padding::kSame, .groups = 16}, 16, 32, 3, 6, 7},
      {"depthwise, odd channels", {.padding = Padding::kSame, .groups = 7}, 7, 7, 3, 6, 7},
      {"narrow groups", {.pads = same, .groups = 3}, 9, 12, 3, 6, 6},
      {"wide groups", {.stride = {2, 2}, .pads = same, .groups = 2}, 64, 96, 3, 8, 8},
  };
  return cases;
}

// Of the largest magnitude: sums in f32, then the result's own rounding, in two steps where an epilogue of
// ours adds to what a library has stored.
double tolerance(DType out) { return out == DType::kF16 ? 0x1p-10 : out == DType::kBF16 ? 0x1p-7 : 3e-6; }

void run_conv(const ConvCase& c, DType type, std::int64_t rows, std::int64_t bound) {
  const DType out = c.op.f32_out ? DType::kF32 : type;
  const auto extent = [&](std::size_t axis, std::int64_t in) {
    return c.op.window(c.kernel, c.kernel).extent(axis, in).constant();
  };
  KernelCase test{.op = c.op, .inputs = {}};
  test.inputs.push_back(
      {rounded_to(random_tensor({rows, c.channels, c.height, c.width}, -1, 1, 1), type), {}, bound});
  test.inputs.push_back({rounded_to(
      random_tensor({c.outputs, c.channels / c.op.groups, c.kernel, c.kernel}, -0.3f, 0.3f, 2), type)});
  test.inputs.push_back({c.bias ? random_tensor({c.outputs}, -1, 1, 3) : Tensor()});
  if (c.residual) {
    const std::int64_t s = c.op.residual_scale;
    test.inputs.push_back(
        {rounded_to(
             random_tensor({rows, c.outputs, extent(0, c.height) / s, extent(1, c.width) / s}, -1, 1, 4),
             out),
         {},
         bound});
  }
  expect_as_on_cpu(test, tolerance(out),
                   fmt::format("{}, {}, {} rows of {}", c.what, name_of(type), rows, bound));
}

TEST(CudaConv, F32) {
  SKIP_WITHOUT_GPU();
  for (const ConvCase& c : conv_cases()) run_conv(c, DType::kF32, 2, 0);
}

TEST(CudaConv, F16) {
  SKIP_WITHOUT_GPU();
  for (const ConvCase& c : conv_cases()) run_conv(c, DType::kF16, 2, 0);
}

TEST(CudaConv, BF16) {
  SKIP_WITHOUT_GPU();
  for (const std::size_t i : {0u, 2u, 10u, 19u, 22u}) run_conv(conv_cases()[i], DType::kBF16, 1, 0);
}

TEST(CudaConv, Depthwise) {
  SKIP_WITHOUT_GPU();
  const std::pair<std::int64_t, std::int64_t> maps[]{{1, 1}, {2, 3}, {7, 5}, {16, 16}, {33, 47}};
  // Each in turn: what is done with a sum does not depend on how it came about.
  constexpr Activation kKinds[]{Activation::kNone, Activation::kRelu6, Activation::kSwish};
  std::size_t turn = 0;
  for (const int kernel : {3, 5})
    for (const int stride : {1, 2})
      for (const std::int64_t channels : {4, 24, 140})
        for (const auto& [height, width] : maps) {
          ++turn;
          for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
            const Activation kind = kKinds[turn++ % std::size(kKinds)];
            run_conv({fmt::format("depthwise {}, {} x {} of {}", kernel, height, width, channels),
                      {.stride = {stride, stride},
                       .padding = Padding::kSame,
                       .groups = static_cast<int>(channels),
                       .activation = kind},
                      channels,
                      channels,
                      kernel,
                      height,
                      width,
                      kind != Activation::kNone},
                     type, 2, 0);
          }
        }
  const ConvCase pads{"depthwise with pads", {.pads = {2, 0, 1, 1}, .groups = 32}, 32, 32, 3, 19, 21};
  for (const std::int64_t rows : {0, 1, 20}) run_conv(pads, DType::kF16, rows, 20);
}

// Enough for threads to make several rows each.
TEST(CudaConv, DepthwiseOfLargeMaps) {
  SKIP_WITHOUT_GPU();
  take_as_small(200000);
  const int channels = short_cases() ? 4 : 64;
  const auto [height, width] = short_cases() ? std::pair(160, 100) : std::pair(321, 219);
  for (const int kernel : {3, 5})
    for (const int stride : {1, 2})
      run_conv({fmt::format("depthwise {}, stride {}", kernel, stride),
                {.stride = {stride, stride}, .padding = Padding::kSame, .groups = channels},
                channels,
                channels,
                kernel,
                height,
                width},
               DType::kF16, 3, 0);
}

// Of so many inputs, on so small a map, that a sum is split.
TEST(CudaConv, LongSumsOfSmallMaps) {
  SKIP_WITHOUT_GPU();
  take_as_small(30000);
  const std::vector<int> same{1, 1, 1, 1}, two{2, 2};
  const std::vector<ConvCase> cases{
      {"long sums of a few pixels", {.pads = same}, 232, 8, 3, 3, 5},
      {"long sums", {.pads = same, .activation = Activation::kRelu}, 256, 72, 3, 7, 11},
      {"long sums, stride 2",
       {.stride = two, .pads = same, .activation = Activation::kRelu6},
       256,
       256,
       3,
       25,
       42},
      {"long sums, stride 2, same", {.stride = two, .padding = Padding::kSame}, 264, 64, 3, 20, 13, false},
      {"long sums, the most", {.stride = two, .padding = Padding::kSame}, 2048, 64, 3, 26, 46}};
  for (const ConvCase& c : cases)
    for (const DType type : {DType::kF16, DType::kBF16}) run_conv(c, type, 2, 0);
}

TEST(CudaConv, RowsOfABound) {
  SKIP_WITHOUT_GPU();
  const ConvCase mask{"mask head", {.pads = {1, 1, 1, 1}, .activation = Activation::kRelu}, 32, 32, 3, 7, 7};
  const ConvCase masks{"masks", {.activation = Activation::kSigmoid, .f32_out = true}, 32, 80, 1, 7, 7};
  for (const std::int64_t rows : {0, 1, 20})
    for (const DType type : {DType::kF32, DType::kF16}) {
      run_conv(mask, type, rows, 20);
      run_conv(masks, type, rows, 20);
    }
}

}  // namespace
}  // namespace osprey
