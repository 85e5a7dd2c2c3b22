// One launch for up to kMaps maps: a pack of the result looks up the map that it comes from.
#include <algorithm>

#include "cuda/integers.cuh"
#include "cuda/packs.cuh"
#include "ops/concat.h"

namespace osprey {
namespace {

constexpr int kMaps = 8;

// Maps side by side, the first of them at channel `begin` of the result. Spare places repeat the last.
template <class T, int N>
struct Gathered {
  const T* maps[kMaps];
  int ends[kMaps];  // in the result
  int begin, width, channels;
  T* y;
  int height;

  // Packs of a value that has the channels of these maps alone.
  __device__ void operator()(const PackPlace& p) const {
    const int channel = begin + p.channel;
    const T* from = maps[0];
    int first = begin, end = ends[0];
#pragma unroll
    for (int i = 1; i < kMaps; ++i)
      if (channel >= ends[i - 1] && ends[i] > ends[i - 1]) from = maps[i], first = ends[i - 1], end = ends[i];
    const std::int64_t pixel = (static_cast<std::int64_t>(p.n) * height + p.row) * width + p.column;
    *reinterpret_cast<Pack<T, N>*>(y + pixel * channels + channel) =
        *reinterpret_cast<const Pack<T, N>*>(from + pixel * (end - first) + channel - first);
  }
};

template <class T, int N>
void launch(CudaRun& run, std::size_t inputs) {
  const CudaValue& y = run.out(0);
  int begin = 0;
  for (std::size_t first = 0; first < inputs; first += kMaps) {
    Gathered<T, N> f{.maps = {},
                     .ends = {},
                     .begin = begin,
                     .width = static_cast<int>(y.dims[3]),
                     .channels = static_cast<int>(y.dims[1]),
                     .y = y.as<T>(),
                     .height = static_cast<int>(y.dims[2])};
    int end = begin;
    for (std::size_t i = 0; i < kMaps; ++i) {
      if (first + i < inputs) end += static_cast<int>(run.in(first + i).dims[1]);
      f.maps[i] = run.in(std::min(first + i, inputs - 1)).as<T>();
      f.ends[i] = end;
    }
    CudaValue part = y;
    part.dims[1] = end - begin;
    launch_packs<N>(part, run.stream(), f);
    begin = end;
  }
}

void concat(CudaRun& run, std::size_t inputs) {
  with_stored_type(run.out(0).dtype, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kMost = 16 / static_cast<int>(sizeof(T));
    bool packed = true;
    for (std::size_t i = 0; i < inputs; ++i) packed = packed && run.in(i).dims[1] % kMost == 0;
    packed ? launch<T, kMost>(run, inputs) : launch<T, 1>(run, inputs);
  });
  cuda_check_launch("concat");
}

}  // namespace

CudaKernel concat_cuda() {
  return {.op = &kOpInfo<Concat>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16, DType::kI8, DType::kU8},
          .prepare = [](CudaPrepare& p) {
            return cuda_step([inputs = p.node().inputs.size()](CudaRun& run) { concat(run, inputs); });
          }};
}

}  // namespace osprey
