// A plain map, which the layers that follow take in the layout that they like.
#include "ops/token_map.h"

#include "cpu/kernel.h"

namespace osprey {
namespace {

template <class T>
void transpose(CpuRun& run) {
  const auto x = run.input<T, 2>(0);
  const auto y = run.output<T, 4>(0);
  const std::int64_t channels = x.dim(1), pixels = y.dim(2) * y.dim(3);
  cpu_for(y.dim(0) * channels, run.threads(), [&](std::int64_t plane) {
    const T* from = x.data + plane / channels * pixels * channels + plane % channels;
    T* to = y.data + plane * pixels;
    for (std::int64_t p = 0; p < pixels; ++p) to[p] = from[p * channels];
  });
}

}  // namespace

CpuKernel token_map_cpu() {
  return {.op = &kOpInfo<TokenMap>, .dtypes = {DType::kF32, DType::kBF16}, .prepare = [](CpuPrepare&) {
            return cpu_step([](CpuRun& run) {
              run.in(0).dtype == DType::kF32 ? transpose<float>(run) : transpose<BFloat16>(run);
            });
          }};
}

}  // namespace osprey
