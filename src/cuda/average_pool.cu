#include "cuda/packs.cuh"
#include "ops/average_pool.h"

namespace osprey {
namespace {

template <class T, int N>
struct Mean {
  const T* x;
  T* y;
  int channels, height, width;  // of x
  int kernel[2], stride[2], pads[2];
  int counted;  // pixels of every window; 0: those of it in the map

  __device__ void operator()(const PackPlace& p) const {
    const int top = p.row * stride[0] - pads[0], left = p.column * stride[1] - pads[1];
    const int first_row = max(top, 0), rows = min(top + kernel[0], height) - first_row;
    const int first_column = max(left, 0), columns = min(left + kernel[1], width) - first_column;
    float sum[N] = {};
    for (int r = 0; r < rows; ++r)
      for (int q = 0; q < columns; ++q) {
        const std::int64_t pixel =
            (static_cast<std::int64_t>(p.n) * height + first_row + r) * width + first_column + q;
        const auto from = *reinterpret_cast<const Pack<T, N>*>(x + pixel * channels + p.channel);
#pragma unroll
        for (int k = 0; k < N; ++k) sum[k] += widen(from.values[k]);
      }
    const auto pixels = static_cast<float>(counted ? counted : rows * columns);
    Pack<T, N> out;
#pragma unroll
    for (int k = 0; k < N; ++k) out.values[k] = narrow<T>(sum[k] / pixels);
    *reinterpret_cast<Pack<T, N>*>(y + p.at) = out;
  }
};

void launch(const AveragePool& op, CudaRun& run) {
  const CudaValue& x = run.in(0);
  const auto size = [&](std::size_t i) { return static_cast<int>(x.dims[i]); };
  const auto pads = op.window().pads_of(x.dims[2], x.dims[3]);
  with_float_type(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    with_pack<T>(x.dims[1], [&]<int N>() {
      launch_packs<N>(run.out(0), run.stream(),
                      Mean<T, N>{x.as<T>(),
                                 run.out(0).as<T>(),
                                 size(1),
                                 size(2),
                                 size(3),
                                 {op.kernel[0], op.kernel[1]},
                                 {op.stride[0], op.stride[1]},
                                 {pads[0], pads[1]},
                                 op.count_padding ? op.kernel[0] * op.kernel[1] : 0});
    });
  });
  cuda_check_launch("average_pool");
}

}  // namespace

CudaKernel average_pool_cuda() {
  return {.op = &kOpInfo<AveragePool>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare = [](CudaPrepare& p) {
            return cuda_step([op = p.op<AveragePool>()](CudaRun& run) { launch(op, run); });
          }};
}

}  // namespace osprey
