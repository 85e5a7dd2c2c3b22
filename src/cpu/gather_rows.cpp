#include "ops/gather_rows.h"

#include <cstring>

#include "cpu/kernel.h"

namespace osprey {

CpuKernel gather_rows_cpu() {
  return {.op = &kOpInfo<GatherRows>, .dtypes = {DType::kF32, DType::kBF16}, .prepare = [](CpuPrepare&) {
            return cpu_step([](CpuRun& run) {
              const CpuValue &x = run.in(0), &y = run.out(0);
              const std::int32_t* rows = run.input<std::int32_t, 1>(1).data;
              const std::size_t bytes = x.row_bytes();
              const std::int64_t count = run.in(1).dims[0];
              for (std::int64_t i = 0; i < count; ++i)
                std::memcpy(y.data + static_cast<std::size_t>(i) * bytes,
                            x.data + static_cast<std::size_t>(rows[i]) * bytes, bytes);
              run.set_rows(0, count);
            });
          }};
}

}  // namespace osprey
