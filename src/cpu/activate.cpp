#include "ops/activate.h"

#include "cpu/elementwise.h"

namespace osprey {
namespace {

template <class T, class F>
void apply(CpuRun& run, F f) {
  const T* x = elements_in<T>(run, 0);
  T* y = elements_out<T>(run);
  for_elements(run.out(0), run.threads(), [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) y[i] = store_float<T>(f(load_float(x[i])));
  });
}

// Padded lanes are zero by contract, which a sigmoid of them is not.
template <class T>
void clear_padding(CpuRun& run) {
  if (run.out(0).dims.size() != 4) return;
  const CpuPlanes planes(run.out(0));
  if (planes.channels % planes.lanes == 0) return;
  T* y = elements_out<T>(run);
  const std::int64_t live = planes.live_lanes(planes.per_image - 1), pixels = planes.height * planes.width;
  for (std::int64_t plane = planes.per_image - 1; plane < planes.count; plane += planes.per_image)
    for (std::int64_t p = 0; p < pixels; ++p)
      std::fill_n(y + plane * planes.plane_size() + p * planes.lanes + live, planes.lanes - live, T{});
}

template <class T>
void activate(CpuRun& run, Activation kind) {
  switch (kind) {
    case Activation::kNone:
      return apply<T>(run, [](float v) { return v; });
    case Activation::kRelu:
      return apply<T>(run, [](float v) { return activated(Activation::kRelu, v); });
    case Activation::kSigmoid:
      apply<T>(run, sigmoid);
      return clear_padding<T>(run);
    case Activation::kSwish:
      return apply<T>(run, [](float v) { return v * sigmoid(v); });
    case Activation::kRelu6:
      return apply<T>(run, [](float v) { return activated(Activation::kRelu6, v); });
  }
}

}  // namespace

CpuKernel activate_cpu() {
  return {.op = &kOpInfo<Activate>,
          .dtypes = {DType::kF32, DType::kBF16},
          .input = any_port,
          .output = any_port,
          .prepare =
              [](CpuPrepare& p) {
                return cpu_step([kind = p.op<Activate>().kind](CpuRun& run) {
                  with_float(run.out(0).dtype, [&]<class T>() { activate<T>(run, kind); });
                });
              },
          .in_place = {0}};
}

}  // namespace osprey
