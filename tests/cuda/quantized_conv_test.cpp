#include "ops/quantized_conv.h"

#include <cmath>

#include "cuda/cuda_harness.h"
#include "cuda/integer_results.h"

namespace osprey {
namespace {

struct Case {
  QuantizedConv op;
  std::int64_t images, channels, outputs, kernel, height, width;
  bool bias = true, residual = false;
  std::int64_t bound = 0;
};

constexpr DType kResidual = DType::kI8;

KernelCase kernel_case(const Case& c, DType x_type, DType residual_type = kResidual) {
  const auto window = c.op.window(c.kernel, c.kernel);
  const auto extent = [&](std::size_t axis, std::int64_t in) { return window.extent(axis, in).constant(); };
  const std::int64_t sums = c.channels / c.op.groups * c.kernel * c.kernel;
  const float spread = 1 / std::sqrt(static_cast<float>(sums));
  KernelCase out{
      .op = c.op,
      .inputs = {{random_integers(x_type, {c.images, c.channels, c.height, c.width}, 1), {}, c.bound},
                 {random_integers(DType::kI8, {c.outputs, c.channels / c.op.groups, c.kernel, c.kernel}, 2)},
                 {random_tensor({c.outputs}, 2e-4f * spread, 6e-4f * spread, 3)},
                 {c.bias ? random_tensor({c.outputs}, -2, 2, 4) : Tensor()}}};
  if (!c.residual) return out;
  const std::int64_t up = c.op.residual_upsampling;
  const Shape shape{c.images, c.outputs, extent(0, c.height) / up, extent(1, c.width) / up};
  const DType to = dtype_of(c.op.to);
  out.inputs.push_back({is_integer(c.op.to) ? random_integers(residual_type, shape, 5)
                                            : rounded_to(random_tensor(shape, -3, 3, 5), to),
                        {},
                        c.bound});
  return out;
}

std::string text_of(const Case& c, DType x_type) {
  return fmt::format("{}x{} stride {} of {}x{}x{}x{} to {} {}, x {}, {}", c.kernel, c.kernel, c.op.stride[0],
                     c.images, c.channels, c.height, c.width, c.outputs,
                     enum_names(c.op.to)[static_cast<std::size_t>(c.op.to)], name_of(x_type),
                     c.residual ? "residual" : "no residual");
}

void expect_right(const Case& c, DType x_type, DType residual_type = kResidual) {
  const KernelCase test = kernel_case(c, x_type, residual_type);
  const auto got = run_cuda(test), want = run_oracle(test);
  if (is_integer(c.op.to))
    expect_almost_all_equal(got[0], want[0], text_of(c, x_type));
  else
    expect_close(got, want, c.op.to == StoredType::kF16 ? 0x1p-11 : 1e-6, text_of(c, x_type));
}

// In every type of what it reads and of what it makes.
void expect_right_in_all_types(Case c) {
  c.op.x_scale = 1.3f, c.op.y_scale = 0.037f, c.op.residual_scale = 0.011f;
  for (const DType x : {DType::kI8, DType::kU8})
    for (const StoredType to : {StoredType::kF32, StoredType::kF16, StoredType::kI8, StoredType::kU8}) {
      c.op.to = to;
      expect_right(c, x);
    }
}

const std::vector<int> kAround{1, 1, 1, 1}, kTwo{2, 2};

TEST(CudaQuantizedConv, OfOnePixelWindows) {
  SKIP_WITHOUT_GPU();
  for (const Case& c : {Case{{}, 1, 64, 64, 1, 8, 8},
                        {{.activation = Activation::kRelu}, 2, 48, 256, 1, 13, 17},
                        {{.stride = kTwo}, 1, 256, 144, 1, 15, 9},
                        {{}, 1, 16, 24, 1, 9, 7, false},
                        {{}, 1, 16, 16, 1, 1, 1}})
    expect_right_in_all_types(c);
}

// Smooth ones to 8 bits, and channels of half chunks, are no tiles of Hopper's.
TEST(CudaQuantizedConv, OfOnePixelAndManyChannels) {
  SKIP_WITHOUT_GPU();
  for (const Case& c : {Case{{.activation = Activation::kSwish}, 1, 1152, 40, 1, 9, 7},
                        {{.activation = Activation::kRelu6}, 3, 1032, 72, 1, 5, 5, true, true},
                        {{.activation = Activation::kSwish}, 1, 112, 672, 1, 16, 16},
                        {{}, 2, 40, 90, 1, 7, 9},
                        {{}, 1, 24, 21, 1, 7, 5, false},
                        {{}, 1, 8, 8, 1, 1, 1}})
    expect_right_in_all_types(c);
}

TEST(CudaQuantizedConv, OfWindows) {
  SKIP_WITHOUT_GPU();
  for (const Case& c :
       {Case{{.pads = kAround, .activation = Activation::kRelu}, 1, 64, 64, 3, 9, 11},
        {{.stride = kTwo, .pads = kAround, .activation = Activation::kRelu6}, 2, 32, 48, 3, 12, 10},
        {{.dilation = kTwo, .pads = {2, 2, 2, 2}, .activation = Activation::kRelu}, 1, 16, 40, 3, 9, 9},
        {{.padding = Padding::kSame}, 1, 80, 32, 5, 6, 7},
        {{.stride = kTwo, .padding = Padding::kSame}, 1, 16, 32, 3, 8, 7}})
    expect_right_in_all_types(c);
}

TEST(CudaQuantizedConv, OfChannelsThatNeedPadding) {
  SKIP_WITHOUT_GPU();
  for (const Case& c :
       {Case{{.stride = kTwo, .pads = {3, 3, 3, 3}, .activation = Activation::kRelu}, 1, 3, 64, 7, 20, 24},
        {{.pads = kAround}, 1, 24, 144, 3, 6, 5},
        {{}, 1, 24, 24, 1, 6, 5},
        {{.pads = kAround}, 1, 9, 81, 3, 6, 5},
        {{.pads = kAround}, 1, 64, 36, 3, 7, 3}})
    expect_right_in_all_types(c);
}

TEST(CudaQuantizedConv, ActivationsThatAreSmooth) {
  SKIP_WITHOUT_GPU();
  for (const Activation kind : {Activation::kSwish, Activation::kSigmoid}) {
    Case c{{.activation = kind, .x_scale = 1, .y_scale = 0.01f}, 1, 32, 32, 1, 9, 9};
    for (const StoredType to : {StoredType::kI8, StoredType::kF32}) {
      c.op.to = to;
      expect_right(c, DType::kI8);
    }
  }
}

TEST(CudaQuantizedConv, Residuals) {
  SKIP_WITHOUT_GPU();
  for (const Case& c : {Case{{.activation = Activation::kRelu}, 2, 32, 64, 1, 8, 12, true, true},
                        {{.pads = kAround, .activation = Activation::kRelu}, 1, 16, 24, 3, 8, 6, true, true},
                        {{.residual_upsampling = 2}, 2, 32, 128, 1, 8, 12, true, true},
                        {{}, 1, 16, 21, 1, 5, 5, true, true}})
    expect_right_in_all_types(c);
  Case c{{.activation = Activation::kRelu, .to = StoredType::kU8, .x_scale = 1, .y_scale = 0.04f},
         1,
         16,
         32,
         1,
         8,
         8,
         true,
         true};
  c.op.residual_scale = 0.02f;
  expect_right(c, DType::kU8, DType::kU8);
}

// As the executor tiles a large map, whatever the tile.
TEST(CudaQuantizedConv, OfManyTiles) {
  SKIP_WITHOUT_GPU();
  take_as_small(900000);
  for (const Case& c :
       {Case{{.pads = kAround, .activation = Activation::kRelu, .x_scale = 1, .y_scale = 0.04f},
             1,
             64,
             256,
             3,
             150,
             121},
        {{.activation = Activation::kRelu, .x_scale = 1, .y_scale = 0.04f}, 1, 256, 64, 1, 211, 123},
        {{.activation = Activation::kRelu, .x_scale = 1, .y_scale = 0.04f}, 1, 64, 32, 1, 111, 123},
        {{.pads = kAround, .x_scale = 1, .y_scale = 0.04f}, 1, 512, 512, 3, 14, 21}}) {
    Case of = c;
    of.op.to = StoredType::kU8;
    expect_right(of, DType::kU8);
    of.op.to = StoredType::kF16;
    expect_right(of, DType::kI8);
  }
}

TEST(CudaQuantizedConv, WorkFollowsTheRows) {
  SKIP_WITHOUT_GPU();
  Case c{{.pads = kAround,
          .activation = Activation::kRelu,
          .to = StoredType::kU8,
          .x_scale = 1,
          .y_scale = 0.04f},
         0,
         32,
         32,
         3,
         7,
         7};
  c.bound = 40;
  Case pixels = c;
  pixels.op.pads = {0, 0, 0, 0}, pixels.kernel = 1;
  for (const std::int64_t rows : {0, 1, 3, 33, 40}) {
    c.images = pixels.images = rows;
    expect_right(c, DType::kU8);
    expect_right(pixels, DType::kU8);
  }
}

TEST(CudaQuantizedConv, Groups) {
  SKIP_WITHOUT_GPU();
  for (const Case& c :
       {Case{{.pads = kAround, .groups = 32}, 1, 32, 32, 3, 8, 8, false},
        {{.stride = kTwo, .padding = Padding::kSame, .groups = 40, .activation = Activation::kRelu6},
         2,
         40,
         40,
         5,
         14,
         11},
        {{.pads = kAround, .groups = 4}, 1, 16, 16, 3, 6, 6, true, true},
        {{.stride = kTwo, .pads = kAround, .groups = 2}, 1, 64, 96, 3, 8, 8}})
    expect_right_in_all_types(c);
}

}  // namespace
}  // namespace osprey
