#include "cuda/elementwise.cuh"
#include "ops/cast.h"

namespace osprey {
namespace {

template <class From, class To>
struct Converted {
  const From* x;
  To* y;
  __device__ void operator()(std::int64_t i) const { y[i] = narrow<To>(widen(x[i])); }
};

}  // namespace

CudaKernel cast_cuda() {
  return {
      .op = &kOpInfo<Cast>, .dtypes = {DType::kF32, DType::kF16, DType::kBF16}, .prepare = [](CudaPrepare&) {
        return cuda_step([](CudaRun& run) {
          with_float_type(run.in(0).dtype, [&](auto from) {
            with_float_type(run.out(0).dtype, [&](auto to) {
              using From = decltype(from);
              using To = decltype(to);
              launch_elementwise(run.out(0), run.stream(),
                                 Converted<From, To>{run.in(0).as<From>(), run.out(0).as<To>()});
            });
          });
        });
      }};
}

}  // namespace osprey
