// One warp a row.
#include "cuda/kernel.h"
#include "cuda/numbers.cuh"
#include "ops/softmax.h"

namespace osprey {
namespace {

__global__ void softmax_rows(const float* x, float* y, int rows, int columns, const int* live) {
  const int row = static_cast<int>((blockIdx.x * blockDim.x + threadIdx.x) / 32), lane = threadIdx.x % 32;
  if (row >= (live ? min(rows, *live) : rows)) return;
  const float* in = x + static_cast<std::int64_t>(row) * columns;
  float* out = y + static_cast<std::int64_t>(row) * columns;
  float most = -INFINITY, sum = 0;
  for (int i = lane; i < columns; i += 32) most = fmaxf(most, in[i]);
  for (int step = 16; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, step));
  for (int i = lane; i < columns; i += 32) sum += expf(in[i] - most);
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  for (int i = lane; i < columns; i += 32) out[i] = expf(in[i] - most) / sum;
}

}  // namespace

CudaKernel softmax_cuda() {
  return {.op = &kOpInfo<Softmax>, .dtypes = {DType::kF32}, .prepare = [](CudaPrepare&) {
            return cuda_step([](CudaRun& run) {
              const CudaValue& x = run.in(0);
              if (x.dims[0] == 0) return;
              softmax_rows<<<blocks_for(x.dims[0] * 32), kBlock, 0, run.stream()>>>(
                  x.as<float>(), run.out(0).as<float>(), static_cast<int>(x.dims[0]),
                  static_cast<int>(x.dims[1]), x.rows);
              cuda_check_launch("softmax");
            });
          }};
}

}  // namespace osprey
