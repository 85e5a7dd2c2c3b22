#include "cuda/channel_sums.cuh"
#include "ops/global_average_pool.h"

namespace osprey {
namespace {

template <class T>
__global__ void __launch_bounds__(kBlock)
    find_means(MapParts parts, const float* sums, T* y, const int* live) {
  const int n = static_cast<int>(blockIdx.y), channel = static_cast<int>(blockIdx.x * kBlock + threadIdx.x);
  if (channel >= parts.channels || (live && n >= *live)) return;
  y[static_cast<std::int64_t>(n) * parts.channels + channel] = narrow<T>(mean_of(parts, sums, n, channel));
}

template <class T>
void launch(const MapParts& parts, CudaRun& run) {
  const CudaValue &x = run.in(0), &y = run.out(0);
  if (element_count(y.dims) == 0) return;
  if (parts.count == 1) {
    launch_sums<T>(parts, x, y.as<T>(), static_cast<float>(parts.pixels), run.stream());
  } else {
    auto* const sums = reinterpret_cast<float*>(run.scratch());
    launch_sums<T>(parts, x, sums, 1.f, run.stream());
    const dim3 grid(blocks_for(parts.channels), static_cast<unsigned>(y.dims[0]));
    find_means<<<grid, kBlock, 0, run.stream()>>>(parts, sums, y.as<T>(), y.rows);
  }
  cuda_check_launch("global_average_pool");
}

}  // namespace

CudaKernel global_average_pool_cuda() {
  return {.op = &kOpInfo<GlobalAveragePool>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare = [](CudaPrepare& p) {
            const Shape& x = p.input(0).dims;
            const MapParts parts = parts_of(x, p.input(0).dtype);
            if (parts.count > 1)
              p.request_scratch(static_cast<std::size_t>(x[0] * parts.count * x[1]) * sizeof(float));
            return cuda_step([parts](CudaRun& run) {
              with_float_type(run.in(0).dtype, [&](auto zero) { launch<decltype(zero)>(parts, run); });
            });
          }};
}

}  // namespace osprey
