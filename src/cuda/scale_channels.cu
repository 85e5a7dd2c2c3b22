#include "cuda/packs.cuh"
#include "ops/scale_channels.h"

namespace osprey {
namespace {

template <class T, int N>
struct Scaled {
  const T *x, *s;
  T* y;
  int channels;

  __device__ void operator()(const PackPlace& p) const {
    auto v = *reinterpret_cast<const Pack<T, N>*>(x + p.at);
    const auto by =
        *reinterpret_cast<const Pack<T, N>*>(s + static_cast<std::int64_t>(p.n) * channels + p.channel);
#pragma unroll
    for (int k = 0; k < N; ++k) v.values[k] = narrow<T>(widen(v.values[k]) * widen(by.values[k]));
    *reinterpret_cast<Pack<T, N>*>(y + p.at) = v;
  }
};

void launch(CudaRun& run) {
  const CudaValue& y = run.out(0);
  with_float_type(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    with_pack<T>(y.dims[1], [&]<int N>() {
      launch_packs<N>(
          y, run.stream(),
          Scaled<T, N>{run.in(0).as<T>(), run.in(1).as<T>(), y.as<T>(), static_cast<int>(y.dims[1])});
    });
  });
  cuda_check_launch("scale_channels");
}

}  // namespace

CudaKernel scale_channels_cuda() {
  return {.op = &kOpInfo<ScaleChannels>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare = [](CudaPrepare&) { return cuda_step(launch); },
          .in_place = {0}};
}

}  // namespace osprey
