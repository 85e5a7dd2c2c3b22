#include "cuda/channel_means.cuh"
#include "ops/global_average_pool.h"

namespace osprey {

CudaKernel global_average_pool_cuda() {
  return {.op = &kOpInfo<GlobalAveragePool>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare = [](CudaPrepare& p) {
            const auto means = std::make_shared<const Means>(p, p.input(0).dims, p.input(0).dtype);
            p.request_scratch(means->scratch_bytes());
            return cuda_step([means](CudaRun& run) {
              if (element_count(run.out(0).dims) == 0) return;
              with_float_type(run.in(0).dtype, [&](auto zero) {
                using T = decltype(zero);
                means->launch<T>(run, run.out(0).as<T>(), run.scratch());
              });
              cuda_check_launch("global_average_pool");
            });
          }};
}

}  // namespace osprey
