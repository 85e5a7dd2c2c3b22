#include "ops/global_average_pool.h"

#include "cpu/channel_means.h"

namespace osprey {

CpuKernel global_average_pool_cpu() {
  return {.op = &kOpInfo<GlobalAveragePool>,
          .dtypes = {DType::kF32, DType::kBF16},
          .input = any_port,
          .prepare = [](CpuPrepare& p) {
            const ChannelMeans means(p.input(0));
            p.request_scratch(static_cast<std::size_t>(means.floats()) * sizeof(float));
            return cpu_step([means](CpuRun& run) {
              auto* sums = reinterpret_cast<float*>(run.scratch().data());
              with_float(run.in(0).dtype, [&]<class T>() {
                auto* y = reinterpret_cast<T*>(run.out(0).data);
                const std::int64_t channels = run.in(0).dims[1];
                means.run<T>(run.in(0), sums, run.threads(), [&](std::int64_t n, std::int64_t c, float mean) {
                  y[n * channels + c] = store_float<T>(mean);
                });
              });
            });
          }};
}

}  // namespace osprey
