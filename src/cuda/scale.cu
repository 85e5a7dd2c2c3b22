#include "cuda/elementwise.cuh"
#include "ops/scale.h"

namespace osprey {
namespace {

template <class T>
struct Scaled {
  const T* x;
  T* y;
  float factor;
  __device__ void operator()(std::int64_t i) const { y[i] = narrow<T>(widen(x[i]) * factor); }
};

}  // namespace

CudaKernel scale_cuda() {
  return {.op = &kOpInfo<Scale>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare =
              [](CudaPrepare& p) {
                return cuda_step([factor = p.op<Scale>().factor](CudaRun& run) {
                  with_float_type(run.in(0).dtype, [&](auto zero) {
                    using T = decltype(zero);
                    launch_elementwise(run.out(0), run.stream(),
                                       Scaled<T>{run.in(0).as<T>(), run.out(0).as<T>(), factor});
                  });
                });
              },
          .in_place = {0}};
}

}  // namespace osprey
