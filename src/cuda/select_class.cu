#include "cuda/boxes.cuh"
#include "cuda/elementwise.cuh"
#include "ops/select_class.h"

namespace osprey {
namespace {

template <class T>
struct OwnClass {
  const T* x;
  const int* classes;
  float* y;
  std::int64_t maps, pixels, first;
  __device__ void operator()(std::int64_t i) const {
    const std::int64_t map = maps == 1 ? 0 : first + classes[i / pixels];
    y[i] = cuda::sigmoid_rounded(widen(x[i * maps + map]));
  }
};

}  // namespace

CudaKernel select_class_cuda() {
  return {.op = &kOpInfo<SelectClass>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare = [](CudaPrepare& p) {
            return cuda_step([first = p.op<SelectClass>().first](CudaRun& run) {
              const Shape& dims = run.in(0).dims;
              with_float_type(run.in(0).dtype, [&](auto zero) {
                using T = decltype(zero);
                launch_elementwise(run.out(0), run.stream(),
                                   OwnClass<T>{run.in(0).as<T>(), run.in(1).as<int>(), run.out(0).as<float>(),
                                               dims[1], dims[2] * dims[3], first});
              });
            });
          }};
}

}  // namespace osprey
