#include "cuda/elementwise.cuh"
#include "ops/upsample.h"

namespace osprey {
namespace {

struct Sample {
  int low, high;
  float weight;  // of the second
};

__device__ Sample sample_at(int index, int scale, int extent) {
  const float source = fmaxf(0.f, (static_cast<float>(index) + 0.5f) / static_cast<float>(scale) - 0.5f);
  const int low = min(static_cast<int>(source), extent - 1);
  return {low, min(low + 1, extent - 1), source - static_cast<float>(low)};
}

template <class T>
struct Enlarged {
  const T* x;
  T* y;
  int channels, height, width, scale;  // of x
  bool bilinear;

  __device__ float at(std::int64_t n, int row, int column, int c) const {
    return widen(x[((n * height + row) * width + column) * channels + c]);
  }
  __device__ void operator()(std::int64_t i) const {
    const int c = static_cast<int>(i % channels), column = static_cast<int>(i / channels % (width * scale));
    const std::int64_t line = i / channels / (width * scale), n = line / (height * scale);
    const int row = static_cast<int>(line % (height * scale));
    if (!bilinear) {
      y[i] = x[((n * height + row / scale) * width + column / scale) * channels + c];
      return;
    }
    const Sample v = sample_at(row, scale, height), h = sample_at(column, scale, width);
    const float a = at(n, v.low, h.low, c), b = at(n, v.low, h.high, c);
    const float d = at(n, v.high, h.low, c), e = at(n, v.high, h.high, c);
    const float top = a + (b - a) * h.weight, bottom = d + (e - d) * h.weight;
    y[i] = narrow<T>(top + (bottom - top) * v.weight);
  }
};

}  // namespace

CudaKernel upsample_cuda() {
  return {.op = &kOpInfo<Upsample>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare = [](CudaPrepare& p) {
            return cuda_step([op = p.op<Upsample>()](CudaRun& run) {
              const CudaValue& x = run.in(0);
              with_float_type(x.dtype, [&](auto zero) {
                using T = decltype(zero);
                launch_elementwise(run.out(0), run.stream(),
                                   Enlarged<T>{x.as<T>(), run.out(0).as<T>(), static_cast<int>(x.dims[1]),
                                               static_cast<int>(x.dims[2]), static_cast<int>(x.dims[3]),
                                               op.scale, op.mode == Interpolation::kBilinear});
              });
            });
          }};
}

}  // namespace osprey
