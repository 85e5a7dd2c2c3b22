// A convolution's windows side by side, which makes it a matrix product: for small maps of many channels,
// whose sums a product can split over the device.
#pragma once

#include <array>

#include <cuda_runtime_api.h>

#include "core/dtype.h"

namespace osprey {

struct Im2col {
  std::int64_t images = 0, height = 0, width = 0, channels = 0;  // of x, channels last
  std::int64_t out_height = 0, out_width = 0;
  std::array<std::int64_t, 2> kernel{1, 1}, stride{1, 1}, dilation{1, 1}, pads_before{};

  std::int64_t rows() const { return images * out_height * out_width; }
  std::int64_t columns() const { return kernel[0] * kernel[1] * channels; }
};

// to[rows, columns]: the windows, taps outside, channels inside; zeros beyond the map. `type` is f16 or bf16,
// and 8 divides the channels.
void launch_im2col(const Im2col& im2col, DType type, const void* x, void* to, cudaStream_t stream);

}  // namespace osprey
