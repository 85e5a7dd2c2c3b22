#include "cuda/elementwise.cuh"
#include "ops/global_average_pool.h"

namespace osprey {
namespace {

// Neighbouring threads read neighbouring channels.
template <class T>
struct Average {
  const T* x;
  T* y;
  std::int64_t channels, pixels;
  __device__ void operator()(std::int64_t i) const {
    const T* map = x + i / channels * pixels * channels + i % channels;
    float sum = 0;
    for (std::int64_t p = 0; p < pixels; ++p) sum += widen(map[p * channels]);
    y[i] = narrow<T>(sum / static_cast<float>(pixels));
  }
};

}  // namespace

CudaKernel global_average_pool_cuda() {
  return {.op = &kOpInfo<GlobalAveragePool>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare = [](CudaPrepare& p) {
            const Shape& dims = p.input(0).dims;
            return cuda_step([channels = dims[1], pixels = dims[2] * dims[3]](CudaRun& run) {
              with_float_type(run.in(0).dtype, [&](auto zero) {
                using T = decltype(zero);
                launch_elementwise(run.out(0), run.stream(),
                                   Average<T>{run.in(0).as<T>(), run.out(0).as<T>(), channels, pixels});
              });
            });
          }};
}

}  // namespace osprey
