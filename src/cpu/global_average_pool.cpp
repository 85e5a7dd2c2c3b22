#include "ops/global_average_pool.h"

#include <algorithm>

#include "cpu/floats.h"
#include "cpu/kernel.h"

namespace osprey {
namespace {

constexpr std::int64_t kGroup = 16;  // channels that are summed together

template <class T>
void pool(CpuRun& run) {
  const CpuValue& in = run.in(0);
  const CpuPlanes planes(in);
  const auto* x = reinterpret_cast<const T*>(in.data);
  auto* y = reinterpret_cast<T*>(run.out(0).data);
  const std::int64_t pixels = planes.height * planes.width, groups = (planes.channels + kGroup - 1) / kGroup;
  cpu_for(in.dims[0] * groups, run.threads(), [&](std::int64_t i) {
    const std::int64_t n = i / groups, first = i % groups * kGroup;
    const std::int64_t count = std::min(kGroup, planes.channels - first);
    for (std::int64_t c = 0; c < count; ++c) {
      const T* source = x + planes.at(n, first + c, 0, 0);
      float sum = 0;
      for (std::int64_t p = 0; p < pixels; ++p) sum += load_float(source[p * planes.lanes]);
      y[n * planes.channels + first + c] = store_float<T>(sum / static_cast<float>(pixels));
    }
  });
}

}  // namespace

CpuKernel global_average_pool_cpu() {
  return {
      .op = &kOpInfo<GlobalAveragePool>,
      .dtypes = {DType::kF32, DType::kBF16},
      .input = any_port,
      .prepare = [](CpuPrepare&) {
        return cpu_step([](CpuRun& run) { with_float(run.in(0).dtype, [&]<class T>() { pool<T>(run); }); });
      }};
}

}  // namespace osprey
