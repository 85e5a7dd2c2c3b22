// Channels-last maps are rows already, so an image's share of each map is copied to its place; that of a
// single map is there.
#include <algorithm>

#include "cuda/row_packs.cuh"
#include "ops/tokens.h"

namespace osprey {
namespace {

constexpr int kMaps = 8;  // of a launch

// Maps side by side in the result, from token `begin` of each image on. Spare places repeat the last.
template <class T, int N>
struct Gathered {
  const T* maps[kMaps];
  std::int64_t ends[kMaps];  // tokens, in the result
  std::int64_t begin, count, tokens, width;
  T* y;

  // Rows are the tokens of these maps alone.
  __device__ void operator()(std::int64_t row, int column) const {
    const std::int64_t n = row / count, token = begin + row % count;
    const T* from = maps[0];
    std::int64_t first = begin, end = ends[0];
#pragma unroll
    for (int i = 1; i < kMaps; ++i)
      if (token >= ends[i - 1] && ends[i] > ends[i - 1]) from = maps[i], first = ends[i - 1], end = ends[i];
    const std::int64_t source = n * (end - first) + token - first;
    *reinterpret_cast<Pack<T, N>*>(y + (n * tokens + token) * width + column) =
        *reinterpret_cast<const Pack<T, N>*>(from + source * width + column);
  }
};

template <class T, int N>
void launch(CudaRun& run, std::size_t inputs) {
  const CudaValue& y = run.out(0);
  const std::int64_t images = run.in(0).dims[0];
  if (images == 0) return;
  std::int64_t begin = 0;
  for (std::size_t first = 0; first < inputs; first += kMaps) {
    Gathered<T, N> f{.maps = {},
                     .ends = {},
                     .begin = begin,
                     .count = 0,
                     .tokens = y.dims[0] / images,
                     .width = y.dims[1],
                     .y = y.as<T>()};
    std::int64_t end = begin;
    for (std::size_t i = 0; i < kMaps; ++i) {
      const Shape& dims = run.in(std::min(first + i, inputs - 1)).dims;
      if (first + i < inputs) end += dims[2] * dims[3];
      f.maps[i] = run.in(std::min(first + i, inputs - 1)).as<T>();
      f.ends[i] = end;
    }
    f.count = end - begin;
    CudaValue part = y;
    part.dims[0] = images * f.count;
    launch_row_packs<N>(part, run.stream(), f);
    begin = end;
  }
}

}  // namespace

CudaKernel tokens_cuda() {
  return {.op = &kOpInfo<Tokens>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare = [](CudaPrepare& p) -> std::unique_ptr<CudaStep> {
            if (p.in_place(0)) return cuda_step([](CudaRun&) {}, "nothing to do");
            return cuda_step([inputs = p.node().inputs.size()](CudaRun& run) {
              with_float_type(run.out(0).dtype, [&](auto zero) {
                using T = decltype(zero);
                with_pack<T>(run.out(0).dims[1], [&]<int N>() { launch<T, N>(run, inputs); });
              });
            });
          },
          .in_place = {0}};
}

}  // namespace osprey
