#include "cuda/row_packs.cuh"
#include "ops/gather_rows.h"

namespace osprey {
namespace {

template <class T, int N>
struct Row {
  const T* x;
  const int* rows;
  T* y;
  std::int64_t width;
  __device__ void operator()(std::int64_t row, int column) const {
    *reinterpret_cast<Pack<T, N>*>(y + row * width + column) =
        *reinterpret_cast<const Pack<T, N>*>(x + rows[row] * width + column);
  }
};

}  // namespace

CudaKernel gather_rows_cuda() {
  return {.op = &kOpInfo<GatherRows>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare = [](CudaPrepare&) {
            return cuda_step([](CudaRun& run) {
              const CudaValue& y = run.out(0);
              with_float_type(y.dtype, [&](auto zero) {
                using T = decltype(zero);
                with_pack<T>(y.dims[1], [&]<int N>() {
                  launch_row_packs<N>(
                      y, run.stream(),
                      Row<T, N>{run.in(0).as<T>(), run.in(1).as<int>(), y.as<T>(), y.dims[1]});
                });
              });
            });
          }};
}

}  // namespace osprey
