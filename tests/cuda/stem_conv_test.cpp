// Our own kernels for a network's first convolution: f16 and bf16, all that they take and the neighbourhood
// of what they decline.
#include "cuda/cuda_harness.h"
#include "ops/conv.h"

namespace osprey {
namespace {

struct Case {
  std::int64_t images, height, width, outputs;
  bool bias = true;
  Activation activation = Activation::kRelu;
};

// The tolerance for f16, in units of its last place; for bf16 likewise.
void expect_as_on_cpu(const Case& c, const Conv& op, std::int64_t window, double places) {
  for (const DType type : {DType::kF16, DType::kBF16}) {
    // Photos are normalised to about -2 to 3; sums of 147 products.
    KernelCase test{
        .op = op,
        .inputs = {{rounded_to(random_tensor({c.images, 3, c.height, c.width}, -2, 3, 5), type)},
                   {rounded_to(random_tensor({c.outputs, 3, window, window}, -0.1f, 0.1f, 7), type)}}};
    if (c.bias) test.inputs.push_back({random_tensor({c.outputs}, -1, 1, 9)});
    expect_as_on_cpu(test, places * (type == DType::kF16 ? 0x1p-10 : 0x1p-7),
                     fmt::format("{} x {} x {} to {}, {}x{} in {}", c.images, c.height, c.width, c.outputs,
                                 window, window, name_of(type)));
  }
}

TEST(CudaStemConv, PhotosOfEverySize) {
  SKIP_WITHOUT_GPU();
  for (const Case& c : std::vector<Case>{{1, 64, 96, 64},
                                         {2, 33, 40, 64},
                                         {1, 1, 8, 64},
                                         {3, 17, 136, 64},
                                         {1, 30, 16, 128},
                                         {1, 19, 72, 64, true, Activation::kRelu6},
                                         {1, 19, 72, 64, false, Activation::kNone}})
    expect_as_on_cpu(c, {.stride = {2, 2}, .pads = {3, 3, 3, 3}, .activation = c.activation}, 7, 0.5);
}

// With pads before, behind and nowhere; outputs that a warp's threads do not divide.
TEST(CudaStemConv, SmallWindows) {
  SKIP_WITHOUT_GPU();
  for (const Case& c : std::vector<Case>{{1, 64, 96, 32, true, Activation::kRelu6},
                                         {2, 33, 41, 48, true, Activation::kSwish},
                                         {1, 2, 1, 8},
                                         {3, 17, 135, 64, true, Activation::kSwish},
                                         {1, 40, 70, 128, false, Activation::kNone}}) {
    expect_as_on_cpu(c, {.stride = {2, 2}, .padding = Padding::kSame, .activation = c.activation}, 3, 1);
    expect_as_on_cpu(c, {.stride = {2, 2}, .pads = {1, 2, 0, 1}, .activation = c.activation}, 3, 1);
  }
}

}  // namespace
}  // namespace osprey
