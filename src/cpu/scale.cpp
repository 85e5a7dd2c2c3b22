#include "ops/scale.h"

#include "cpu/elementwise.h"

namespace osprey {
namespace {

template <class T>
void scale(CpuRun& run, float factor) {
  const T* x = elements_in<T>(run, 0);
  T* y = elements_out<T>(run);
  for_elements(run.out(0), run.threads(), [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) y[i] = store_float<T>(load_float(x[i]) * factor);
  });
}

}  // namespace

CpuKernel scale_cpu() {
  return {.op = &kOpInfo<Scale>,
          .dtypes = {DType::kF32, DType::kBF16},
          .input = any_port,
          .output = any_port,
          .prepare =
              [](CpuPrepare& p) {
                return cpu_step([factor = p.op<Scale>().factor](CpuRun& run) {
                  with_float(run.out(0).dtype, [&]<class T>() { scale<T>(run, factor); });
                });
              },
          .in_place = {0}};
}

}  // namespace osprey
