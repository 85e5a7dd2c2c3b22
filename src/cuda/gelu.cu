#include "cuda/elementwise.cuh"
#include "ops/gelu.h"

namespace osprey {
namespace {

template <class T>
struct GeluOf {
  const T* x;
  T* y;
  template <int N>
  __device__ void at(std::int64_t i) const {
    Pack<T, N> pack = read_pack<T, N>(x + i);
#pragma unroll
    for (T& value : pack.values) {
      const float v = widen(value);
      value = narrow<T>(0.5f * v * (1.0f + erff(v * 0.707106781f)));
    }
    write_pack(pack, y + i);
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
                    launch_element_packs<16 / sizeof(T)>(run.out(0), run.stream(),
                                                         GeluOf<T>{run.in(0).as<T>(), run.out(0).as<T>()});
                  });
                });
              },
          .in_place = {0}};
}

}  // namespace osprey
