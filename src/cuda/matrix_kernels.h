// Our own kernels around the libraries' calls.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime_api.h>

#include "core/dtype.h"
#include "graph/enums.h"

namespace osprey {

// Uniform in [-1, 1], the same every time: for measurements.
void fill_random(void* data, DType type, std::int64_t count, cudaStream_t stream);

// Whether both hold the same; waits for the stream. `bytes` is even.
bool same_bytes(const void* a, const void* b, std::size_t bytes, cudaStream_t stream);

// y = activation(y + bias + residual), where y is [rows, height, width, channels]. The residual, of y's
// type, is [rows, height / scale, width / scale, channels] and its pixels are repeated. Bias (f32) and
// residual may be null.
struct Epilogue {
  std::int64_t rows = 0, height = 1, width = 1, channels = 0;
  int scale = 1;
  Activation activation = Activation::kNone;
};
void launch_epilogue(const Epilogue& epilogue, DType type, void* y, const float* bias, const void* residual,
                     cudaStream_t stream);

// y = activation(bias + the sum of the parts), where parts is f32 [count, pixels, channels] and y is [pixels,
// channels]. Bias (f32) may be null; channels are a multiple of 4.
void launch_part_sum(int count, std::int64_t pixels, std::int64_t channels, Activation activation,
                     const float* parts, DType type, void* y, const float* bias, cudaStream_t stream);

// What a transposed convolution's taps give, summed where windows overlap:
//   y[n, v, u, o] = activation(bias[o] + sum over (a, b) of taps[n, i, j, a, b, o])
// with i * stride + a - pad = v, and likewise j, b, u. Bias (f32) may be null.
struct TapSum {
  std::int64_t rows = 0, channels = 0;
  int height = 0, width = 0;          // of the input
  int out_height = 0, out_width = 0;  // of the result
  int kernel[2]{}, stride[2]{}, pads[2]{};
  Activation activation = Activation::kNone;
};
void launch_tap_sum(const TapSum& sum, DType taps_type, const void* taps, DType y_type, void* y,
                    const float* bias, cudaStream_t stream);

}  // namespace osprey
