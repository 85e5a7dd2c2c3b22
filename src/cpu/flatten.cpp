#include "ops/flatten.h"

#include <cstring>

#include "cpu/kernel.h"

namespace osprey {

// The port takes C order, so there is nothing to do but copy where the input lives on.
CpuKernel flatten_cpu() {
  return {.op = &kOpInfo<Flatten>,
          .dtypes = {DType::kF32, DType::kBF16, DType::kI8, DType::kU8},
          .prepare =
              [](CpuPrepare& p) {
                return cpu_step([in_place = p.in_place(0)](CpuRun& run) {
                  const CpuValue &in = run.in(0), &out = run.out(0);
                  if (!in_place && in.bytes() > 0) std::memcpy(out.data, in.data, in.bytes());
                });
              },
          .in_place = {0}};
}

}  // namespace osprey
