#include "ops/cast.h"

#include "cpu/elementwise.h"

namespace osprey {

CpuKernel cast_cpu() {
  return {.op = &kOpInfo<Cast>,
          .dtypes = {DType::kF32, DType::kBF16},
          .input = any_port,
          .output = any_port,
          .prepare = [](CpuPrepare& p) {
            require(p.op<Cast>().to != FloatType::kF16, "{}: the CPU does not compute in f16", p.node().name);
            return cpu_step([](CpuRun& run) {
              with_float(run.in(0).dtype, [&]<class From>() {
                with_float(run.out(0).dtype, [&]<class To>() {
                  const From* x = elements_in<From>(run, 0);
                  To* y = elements_out<To>(run);
                  for_elements(run.out(0), run.threads(), [=](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t i = begin; i < end; ++i) y[i] = store_float<To>(load_float(x[i]));
                  });
                });
              });
            });
          }};
}

}  // namespace osprey
