#include "cuda/elementwise.cuh"
#include "ops/add.h"

namespace osprey {
namespace {

template <class T>
struct Sum {
  const T *a, *b;
  T* y;
  template <int N>
  __device__ void at(std::int64_t i) const {
    const Pack<T, N> left = read_pack<T, N>(a + i), right = read_pack<T, N>(b + i);
    Pack<T, N> sum;
#pragma unroll
    for (int k = 0; k < N; ++k) sum.values[k] = narrow<T>(widen(left.values[k]) + widen(right.values[k]));
    write_pack(sum, y + i);
  }
};

}  // namespace

CudaKernel add_cuda() {
  return {.op = &kOpInfo<Add>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare =
              [](CudaPrepare&) {
                return cuda_step([](CudaRun& run) {
                  with_float_type(run.in(0).dtype, [&](auto zero) {
                    using T = decltype(zero);
                    launch_element_packs<16 / sizeof(T)>(
                        run.out(0), run.stream(),
                        Sum<T>{run.in(0).as<T>(), run.in(1).as<T>(), run.out(0).as<T>()});
                  });
                });
              },
          .in_place = {0, 1}};
}

}  // namespace osprey
