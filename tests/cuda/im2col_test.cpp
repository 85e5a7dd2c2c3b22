#include "cuda/im2col.h"

#include <algorithm>

#include <fmt/format.h>

#include "cuda/check.h"
#include "cuda/cuda_harness.h"
#include "cuda/device_buffer.h"
#include "cuda/packed_weights.h"

namespace osprey {
namespace {

constexpr int kGarbage = 0xa5;

// What launch_im2col should give, and whether it does, to the byte and none behind.
void expect_windows(const Im2col& c) {
  const std::string what = fmt::format("{} images of {}x{}x{}, {}x{} windows, stride {}", c.images, c.height,
                                       c.width, c.channels, c.kernel[0], c.kernel[1], c.stride[0]);
  const Tensor x = as_type(random_tensor({c.images, c.height, c.width, c.channels}, -1, 1, 7), DType::kF16);
  const std::size_t pixel = static_cast<std::size_t>(c.channels) * 2;
  std::vector<std::byte> want(static_cast<std::size_t>(c.rows() * c.columns()) * 2);
  auto to = want.begin();
  for (std::int64_t n = 0; n < c.images; ++n)
    for (std::int64_t v = 0; v < c.out_height; ++v)
      for (std::int64_t u = 0; u < c.out_width; ++u)
        for (std::int64_t a = 0; a < c.kernel[0]; ++a)
          for (std::int64_t b = 0; b < c.kernel[1]; ++b, to += static_cast<std::ptrdiff_t>(pixel)) {
            const std::int64_t y = v * c.stride[0] + a * c.dilation[0] - c.pads_before[0],
                               z = u * c.stride[1] + b * c.dilation[1] - c.pads_before[1];
            if (y < 0 || y >= c.height || z < 0 || z >= c.width) continue;
            const auto from = static_cast<std::size_t>((n * c.height + y) * c.width + z) * pixel;
            std::copy_n(x.bytes().begin() + static_cast<std::ptrdiff_t>(from), pixel, to);
          }
  const DeviceBuffer input = DeviceBuffer::holding(x.bytes());
  DeviceBuffer output(want.size() + 256);
  cuda_check(cudaMemset(output.data(), kGarbage, output.size()), "garbage");
  launch_im2col(c, DType::kF16, input.data(), output.data(), nullptr);
  std::vector<std::byte> got(output.size());
  cuda_check(cudaMemcpy(got.data(), output.data(), got.size(), cudaMemcpyDeviceToHost), "windows");
  EXPECT_TRUE(std::equal(want.begin(), want.end(), got.begin())) << what;
  EXPECT_TRUE(std::all_of(got.begin() + static_cast<std::ptrdiff_t>(want.size()), got.end(),
                          [](std::byte b) { return b == std::byte{kGarbage}; }))
      << what << ": wrote behind the result";
}

TEST(CudaIm2col, WindowsOfEveryKind) {
  SKIP_WITHOUT_GPU();
  expect_windows({.images = 1, .height = 1, .width = 1, .channels = 8, .out_height = 1, .out_width = 1});
  expect_windows({.images = 2,
                  .height = 25,
                  .width = 42,
                  .channels = 64,
                  .out_height = 13,
                  .out_width = 21,
                  .kernel = {3, 3},
                  .stride = {2, 2},
                  .pads_before = {1, 1}});
  expect_windows({.images = 1,
                  .height = 7,
                  .width = 5,
                  .channels = 1032,
                  .out_height = 7,
                  .out_width = 4,
                  .kernel = {1, 7},
                  .stride = {1, 1},
                  .dilation = {1, 2},
                  .pads_before = {0, 5}});
  expect_windows({.images = 3,
                  .height = 8,
                  .width = 9,
                  .channels = 24,
                  .out_height = 4,
                  .out_width = 5,
                  .kernel = {2, 3},
                  .stride = {2, 2},
                  .dilation = {3, 1}});
}

}  // namespace
}  // namespace osprey
