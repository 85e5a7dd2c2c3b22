#include "cuda/elementwise.cuh"
#include "ops/gelu.h"

namespace osprey {
namespace {

template <class T>
struct GeluOf {
  const T* x;
  T* y;
  __device__ void operator()(std::int64_t i) const {
    const float v = widen(x[i]);
    y[i] = narrow<T>(0.5f * v * (1.0f + erff(v * 0.707106781f)));
  }
};

}  // namespace

CudaKernel gelu_cuda() {
  return {.op = &kOpInfo<Gelu>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare =
              [](CudaPrepare&) {
                return cuda_step([](CudaRun& run) {
                  with_float_type(run.in(0).dtype, [&](auto zero) {
                    using T = decltype(zero);
                    launch_elementwise(run.out(0), run.stream(),
                                       GeluOf<T>{run.in(0).as<T>(), run.out(0).as<T>()});
                  });
                });
              },
          .in_place = {0}};
}

}  // namespace osprey
