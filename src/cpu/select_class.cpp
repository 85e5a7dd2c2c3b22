#include "ops/select_class.h"

#include "cpu/boxes.h"

namespace osprey {
namespace {

template <class T>
void select_class(const SelectClass& op, CpuRun& run) {
  const CpuPlanes planes(run.in(0));
  const T* in = rows_of<T>(run.in(0));
  const auto* const classes = rows_of<std::int32_t>(run.in(1));
  auto* const out = mutable_rows_of<float>(run.out(0));
  const std::int64_t pixels = planes.height * planes.width;
  cpu_for(run.in(0).dims[0], run.threads(), [&](std::int64_t d) {
    const std::int64_t channel = planes.channels == 1 ? 0 : op.first + classes[d];
    const T* from = in + planes.at(d, channel, 0, 0);
    float* to = out + d * pixels;
    for (std::int64_t p = 0; p < pixels; ++p) {
      if constexpr (std::is_same_v<T, float>) {
        to[p] = sigmoid(from[p * planes.lanes]);
      } else {
        to[p] = sigmoid(to_float(from[p * planes.lanes]));
      }
    }
  });
}

}  // namespace

CpuKernel select_class_cpu() {
  return {.op = &kOpInfo<SelectClass>,
          .dtypes = {DType::kF32, DType::kBF16},
          .input = any_port,
          .prepare = [](CpuPrepare& prepare) {
            const auto run =
                prepare.input(0).dtype == DType::kF32 ? select_class<float> : select_class<BFloat16>;
            return cpu_step([run, op = prepare.op<SelectClass>()](CpuRun& r) { run(op, r); });
          }};
}

}  // namespace osprey
