// A thread makes 16 bytes of channels of one pixel, or one channel where their number allows no more.
#include <algorithm>
#include <cmath>

#include "cuda/kernel.h"
#include "cuda/numbers.cuh"
#include "ops/max_pool.h"

namespace osprey {
namespace {

template <class T, int kLanes>
struct alignas(sizeof(T) * kLanes) Lanes {
  T v[kLanes];
};

struct Window {
  int kernel[2], stride[2], pads[2];

  explicit Window(const MaxPool& op)
      : kernel{op.kernel[0], op.kernel[1]},
        stride{op.stride[0], op.stride[1]},
        pads{op.pads[0], op.pads[1]} {}
};

// A row of the result for each blockIdx.x; `channels` counts Lanes.
template <class T, int kLanes>
__global__ void pool(Window window, const Lanes<T, kLanes>* x, int height, int width, Lanes<T, kLanes>* y,
                     int out_height, int out_width, int channels, const int* live) {
  const int n = static_cast<int>(blockIdx.x) / out_height, row = static_cast<int>(blockIdx.x) % out_height;
  if (live && n >= *live) return;
  x += static_cast<std::int64_t>(n) * height * width * channels;
  y += static_cast<std::int64_t>(blockIdx.x) * out_width * channels;
  const int top = row * window.stride[0] - window.pads[0];
  const int first_row = max(top, 0), last_row = min(top + window.kernel[0], height);
  const int step = static_cast<int>(gridDim.y) * kBlock;
  for (int i = static_cast<int>(blockIdx.y) * kBlock + static_cast<int>(threadIdx.x);
       i < out_width * channels; i += step) {
    const int left = i / channels * window.stride[1] - window.pads[1], c = i % channels;
    const int first = max(left, 0), last = min(left + window.kernel[1], width);
    float best[kLanes];
#pragma unroll
    for (int k = 0; k < kLanes; ++k) best[k] = -INFINITY;
    for (int r = first_row; r < last_row; ++r)
      for (int q = first; q < last; ++q) {
        const Lanes<T, kLanes> in = x[(static_cast<std::int64_t>(r) * width + q) * channels + c];
#pragma unroll
        for (int k = 0; k < kLanes; ++k) best[k] = fmaxf(best[k], widen(in.v[k]));
      }
    Lanes<T, kLanes> out;
#pragma unroll
    for (int k = 0; k < kLanes; ++k) out.v[k] = narrow<T>(best[k]);
    y[i] = out;
  }
}

template <class T, int kLanes>
void launch(const MaxPool& op, CudaRun& run) {
  const CudaValue &x = run.in(0), &y = run.out(0);
  const auto channels = static_cast<int>(y.dims[1] / kLanes);
  const auto height = static_cast<int>(y.dims[2]), width = static_cast<int>(y.dims[3]);
  const std::int64_t rows = y.dims[0] * height;
  if (rows == 0) return;
  const dim3 grid(static_cast<unsigned>(rows), std::min(blocks_for(std::int64_t{width} * channels), 65535u));
  pool<<<grid, kBlock, 0, run.stream()>>>(Window(op), x.as<const Lanes<T, kLanes>>(),
                                          static_cast<int>(x.dims[2]), static_cast<int>(x.dims[3]),
                                          y.as<Lanes<T, kLanes>>(), height, width, channels, y.rows);
  cuda_check_launch("max_pool");
}

}  // namespace

CudaKernel max_pool_cuda() {
  return {.op = &kOpInfo<MaxPool>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare = [](CudaPrepare& p) {
            return cuda_step([op = p.op<MaxPool>()](CudaRun& run) {
              with_float_type(run.in(0).dtype, [&](auto zero) {
                using T = decltype(zero);
                constexpr int kLanes = 16 / static_cast<int>(sizeof(T));
                run.in(0).dims[1] % kLanes == 0 ? launch<T, kLanes>(op, run) : launch<T, 1>(op, run);
              });
            });
          }};
}

}  // namespace osprey
