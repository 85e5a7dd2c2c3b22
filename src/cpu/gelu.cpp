#include "ops/gelu.h"

#include "cpu/elementwise.h"

namespace osprey {
namespace {

float gelu(float v) { return 0.5f * v * (1.0f + std::erf(v * 0.707106781f)); }

template <class T>
void apply(CpuRun& run) {
  const T* x = elements_in<T>(run, 0);
  T* y = elements_out<T>(run);
  for_elements(run.out(0), run.threads(), [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) y[i] = store_float<T>(gelu(load_float(x[i])));
  });
}

}  // namespace

CpuKernel gelu_cpu() {
  return {.op = &kOpInfo<Gelu>,
          .dtypes = {DType::kF32, DType::kBF16},
          .input = any_port,
          .output = any_port,
          .prepare =
              [](CpuPrepare&) {
                return cpu_step(
                    [](CpuRun& run) { with_float(run.out(0).dtype, [&]<class T>() { apply<T>(run); }); });
              },
          .in_place = {0}};
}

}  // namespace osprey
