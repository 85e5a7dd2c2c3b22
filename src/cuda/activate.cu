#include "cuda/activations.cuh"
#include "cuda/elementwise.cuh"
#include "ops/activate.h"

namespace osprey {
namespace {

template <class T>
struct Activated {
  const T* x;
  T* y;
  Activation kind;
  __device__ void operator()(std::int64_t i) const { y[i] = narrow<T>(activate(kind, widen(x[i]))); }
};

}  // namespace

CudaKernel activate_cuda() {
  return {.op = &kOpInfo<Activate>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare =
              [](CudaPrepare& p) {
                return cuda_step([kind = p.op<Activate>().kind](CudaRun& run) {
                  with_float_type(run.in(0).dtype, [&](auto zero) {
                    using T = decltype(zero);
                    launch_elementwise(run.out(0), run.stream(),
                                       Activated<T>{run.in(0).as<T>(), run.out(0).as<T>(), kind});
                  });
                });
              },
          .in_place = {0}};
}

}  // namespace osprey
