#include "cuda/integers.cuh"
#include "ops/quantize.h"

namespace osprey {
namespace {

template <class From, class To>
struct Quantized {
  float inverse;
  __device__ To operator()(From v) const { return quantized<To>(widen(v) * inverse); }
};

}  // namespace

CudaKernel quantize_cuda() {
  return {.op = &kOpInfo<Quantize>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare = [](CudaPrepare& p) {
            return cuda_step([inverse = 1 / p.op<Quantize>().scale](CudaRun& run) {
              const CudaValue &x = run.in(0), &y = run.out(0);
              with_float_type(x.dtype, [&](auto from) {
                with_integer_type(y.dtype, [&](auto to) {
                  using From = decltype(from);
                  using To = decltype(to);
                  launch_conversion<From, To>(x, y, run.stream(), Quantized<From, To>{inverse});
                });
              });
              cuda_check_launch("quantize");
            });
          }};
}

}  // namespace osprey
