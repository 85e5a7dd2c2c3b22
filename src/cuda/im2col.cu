#include "cuda/check.h"
#include "cuda/im2col.h"
#include "cuda/numbers.cuh"

namespace osprey {
namespace {

constexpr std::int64_t kLanes = 8;  // channels that a thread copies: 16 bytes

struct Maps {
  int height, width, packs, out_height, out_width, kernel_width, taps;
  int stride[2], dilation[2], pads[2];
};

// A window for each blockIdx.x.
__global__ void __launch_bounds__(kBlock) gather_window(Maps maps, const uint4* __restrict__ x, uint4* to) {
  const int row = static_cast<int>(blockIdx.x), line = row / maps.out_width, n = line / maps.out_height;
  const int top = (line - n * maps.out_height) * maps.stride[0] - maps.pads[0];
  const int left = (row - line * maps.out_width) * maps.stride[1] - maps.pads[1];
  const int count = maps.taps * maps.packs;
  to += static_cast<std::int64_t>(row) * count;
  for (int i = static_cast<int>(blockIdx.y * kBlock + threadIdx.x); i < count;
       i += static_cast<int>(gridDim.y) * kBlock) {
    const int tap = i / maps.packs, pack = i - tap * maps.packs, down = tap / maps.kernel_width;
    const int v = top + down * maps.dilation[0];
    const int u = left + (tap - down * maps.kernel_width) * maps.dilation[1];
    const bool inside = v >= 0 && v < maps.height && u >= 0 && u < maps.width;
    const std::int64_t pixel = (static_cast<std::int64_t>(n) * maps.height + v) * maps.width + u;
    to[i] = inside ? x[pixel * maps.packs + pack] : uint4{0, 0, 0, 0};
  }
}

}  // namespace

void launch_im2col(const Im2col& c, DType type, const void* x, void* to, cudaStream_t stream) {
  check((type == DType::kF16 || type == DType::kBF16) && c.channels % kLanes == 0 && c.rows() < (1 << 30),
        "windows of {} channels of {}, {} rows", c.channels, name_of(type), c.rows());
  if (c.rows() == 0) return;
  const auto size = [](std::int64_t v) { return static_cast<int>(v); };
  const Maps maps{.height = size(c.height),
                  .width = size(c.width),
                  .packs = size(c.channels / kLanes),
                  .out_height = size(c.out_height),
                  .out_width = size(c.out_width),
                  .kernel_width = size(c.kernel[1]),
                  .taps = size(c.kernel[0] * c.kernel[1]),
                  .stride = {size(c.stride[0]), size(c.stride[1])},
                  .dilation = {size(c.dilation[0]), size(c.dilation[1])},
                  .pads = {size(c.pads_before[0]), size(c.pads_before[1])}};
  const dim3 grid(static_cast<unsigned>(c.rows()), std::min(blocks_for(c.columns() / kLanes), 4u));
  gather_window<<<grid, kBlock, 0, stream>>>(maps, static_cast<const uint4*>(x), static_cast<uint4*>(to));
  cuda_check_launch("windows");
}

}  // namespace osprey
