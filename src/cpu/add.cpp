#include "ops/add.h"

#include "cpu/elementwise.h"

namespace osprey {
namespace {

template <class T>
void add(CpuRun& run) {
  const T *a = elements_in<T>(run, 0), *b = elements_in<T>(run, 1);
  T* y = elements_out<T>(run);
  for_elements(run.out(0), run.threads(), [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) y[i] = store_float<T>(load_float(a[i]) + load_float(b[i]));
  });
}

}  // namespace

CpuKernel add_cpu() {
  return {.op = &kOpInfo<Add>,
          .dtypes = {DType::kF32, DType::kBF16},
          .input = any_port,
          .output = any_port,
          .prepare =
              [](CpuPrepare&) {
                return cpu_step(
                    [](CpuRun& run) { with_float(run.out(0).dtype, [&]<class T>() { add<T>(run); }); });
              },
          .in_place = {0, 1}};
}

}  // namespace osprey
