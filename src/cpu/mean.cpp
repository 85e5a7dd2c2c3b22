#include "ops/mean.h"

#include "cpu/elementwise.h"

namespace osprey {

CpuKernel mean_cpu() {
  return {.op = &kOpInfo<Mean>,
          .dtypes = {DType::kF32},
          .input = any_port,
          .output = any_port,
          .prepare = [](CpuPrepare& p) {
            return cpu_step([count = p.node().inputs.size()](CpuRun& run) {
              float* y = elements_out<float>(run);
              for_elements(run.out(0), run.threads(), [&](std::int64_t begin, std::int64_t end) {
                for (std::int64_t i = begin; i < end; ++i) {
                  float sum = elements_in<float>(run, 0)[i];
                  for (std::size_t k = 1; k < count; ++k) sum += elements_in<float>(run, k)[i];
                  y[i] = sum / static_cast<float>(count);
                }
              });
            });
          }};
}

}  // namespace osprey
