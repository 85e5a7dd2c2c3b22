// 8-bit integers to floats, whole values of any layout.
#include "ops/dequantize.h"

#include "cpu/elementwise.h"

namespace osprey {
namespace {

template <class From, class To>
void dequantize(CpuRun& run, float scale) {
  const From* x = elements_in<From>(run, 0);
  To* y = elements_out<To>(run);
  for_elements(run.in(0), run.threads(), [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) y[i] = store_float<To>(static_cast<float>(x[i]) * scale);
  });
}

}  // namespace

CpuKernel dequantize_cpu() {
  return {.op = &kOpInfo<Dequantize>,
          .dtypes = {DType::kI8, DType::kU8},
          .input = any_port,
          .output = any_port,
          .prepare = [](CpuPrepare& p) {
            const Dequantize& op = p.op<Dequantize>();
            require(op.to != FloatType::kF16, "{}: the CPU does not compute in f16", p.node().name);
            return cpu_step([&op](CpuRun& run) {
              with_float(run.out(0).dtype, [&]<class To>() {
                run.in(0).dtype == DType::kI8 ? dequantize<std::int8_t, To>(run, op.scale)
                                              : dequantize<std::uint8_t, To>(run, op.scale);
              });
            });
          }};
}

}  // namespace osprey
