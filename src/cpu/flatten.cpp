#include "ops/flatten.h"

#include <cstring>

#include "cpu/reorder.h"

namespace osprey {

// What lies in C order already is copied; other layouts are brought into it.
CpuKernel flatten_cpu() {
  return {.op = &kOpInfo<Flatten>,
          .dtypes = {DType::kF32, DType::kBF16},
          .input = any_port,
          .prepare = [](CpuPrepare&) {
            return cpu_step([](CpuRun& run) {
              CpuValue out = run.in(0);
              out.layout = {};
              out.data = run.out(0).data;
              reorder(run.in(0), out, run.threads());
            });
          }};
}

}  // namespace osprey
