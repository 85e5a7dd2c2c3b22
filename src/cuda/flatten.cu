// Rows in the order C, H, W from channels-last maps; nothing to do where the readers take them as they lie
// (flattened_channels_last).
#include "cuda/elementwise.cuh"
#include "cuda/integers.cuh"
#include "ops/flatten.h"

namespace osprey {
namespace {

template <class T>
struct Flattened {
  const T* x;
  T* y;
  std::int64_t channels, pixels;
  __device__ void operator()(std::int64_t i) const {
    const std::int64_t row = channels * pixels, r = i / row, c = i % row / pixels, p = i % pixels;
    y[i] = x[r * row + p * channels + c];
  }
};

void copy_rows(CudaRun& run) {
  cuda_check(cudaMemcpyAsync(run.out(0).data, run.in(0).data, run.out(0).bytes(), cudaMemcpyDeviceToDevice,
                             run.stream()),
             "flatten");
}

}  // namespace

CudaKernel flatten_cuda() {
  return {.op = &kOpInfo<Flatten>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16, DType::kI8, DType::kU8},
          .prepare = [](CudaPrepare& p) -> std::unique_ptr<CudaStep> {
            const Shape& dims = p.input(0).dims;
            const std::int64_t pixels = dims[2] * dims[3];
            if (flattened_channels_last(p.graph(), p.node().outputs[0]) || pixels == 1 || dims[1] == 1) {
              if (p.in_place(0)) return cuda_step([](CudaRun&) {}, "nothing to do");
              return cuda_step(copy_rows, "copy");
            }
            check(!p.in_place(0), "flatten: in place, but the order changes");
            return cuda_step([channels = dims[1], pixels](CudaRun& run) {
              with_stored_type(run.in(0).dtype, [&](auto zero) {
                using T = decltype(zero);
                launch_elementwise(run.out(0), run.stream(),
                                   Flattened<T>{run.in(0).as<T>(), run.out(0).as<T>(), channels, pixels});
              });
            });
          },
          .in_place = {0}};
}

}  // namespace osprey
