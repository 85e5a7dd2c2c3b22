#include "cuda/integers.cuh"
#include "ops/dequantize.h"

namespace osprey {
namespace {

template <class From, class To>
struct Dequantized {
  float scale;
  __device__ To operator()(From v) const { return narrow<To>(static_cast<float>(v) * scale); }
};

}  // namespace

CudaKernel dequantize_cuda() {
  return {.op = &kOpInfo<Dequantize>, .dtypes = {DType::kI8, DType::kU8}, .prepare = [](CudaPrepare& p) {
            return cuda_step([scale = p.op<Dequantize>().scale](CudaRun& run) {
              const CudaValue &x = run.in(0), &y = run.out(0);
              with_integer_type(x.dtype, [&](auto from) {
                with_float_type(y.dtype, [&](auto to) {
                  using From = decltype(from);
                  using To = decltype(to);
                  launch_conversion<From, To>(x, y, run.stream(), Dequantized<From, To>{scale});
                });
              });
              cuda_check_launch("dequantize");
            });
          }};
}

}  // namespace osprey
