// Enlarging on any layout. Bilinear rows are computed from the two source rows around them.
#include "ops/upsample.h"

#include <algorithm>
#include <cmath>

#include "cpu/floats.h"
#include "cpu/planes.h"

namespace osprey {
namespace {

// Where an output coordinate samples: two neighbours and the weight of the second.
struct Sample {
  std::int64_t low = 0, high = 0;
  float weight = 0;
};

Sample sample_at(std::int64_t index, int scale, std::int64_t extent) {
  const float source = std::max(0.f, (static_cast<float>(index) + 0.5f) / static_cast<float>(scale) - 0.5f);
  Sample s;
  s.low = std::min(static_cast<std::int64_t>(source), extent - 1);
  s.high = std::min(s.low + 1, extent - 1);
  s.weight = source - static_cast<float>(s.low);
  return s;
}

template <class T>
void bilinear(CpuRun& run, int scale) {
  const CpuPlanes from(run.in(0)), to(run.out(0));
  const auto* x = reinterpret_cast<const T*>(run.in(0).data);
  auto* y = reinterpret_cast<T*>(run.out(0).data);
  const std::int64_t lanes = from.lanes;
  cpu_for(to.count * to.height, run.threads(), [&](std::int64_t i) {
    const Sample v = sample_at(i % to.height, scale, from.height);
    const T* plane = x + i / to.height * from.plane_size();
    const T *upper = plane + v.low * from.width * lanes, *lower = plane + v.high * from.width * lanes;
    T* out = y + i * to.width * lanes;
    for (std::int64_t c = 0; c < to.width; ++c, out += lanes) {
      const Sample h = sample_at(c, scale, from.width);
      for (std::int64_t k = 0; k < lanes; ++k) {
        const float a = load_float(upper[h.low * lanes + k]), b = load_float(upper[h.high * lanes + k]);
        const float d = load_float(lower[h.low * lanes + k]), e = load_float(lower[h.high * lanes + k]);
        const float top = a + (b - a) * h.weight, bottom = d + (e - d) * h.weight;
        out[k] = store_float<T>(top + (bottom - top) * v.weight);
      }
    }
  });
}

}  // namespace

CpuKernel upsample_cpu() {
  return {.op = &kOpInfo<Upsample>,
          .dtypes = {DType::kF32, DType::kBF16},
          .input = any_port,
          .output = any_port,
          .prepare = [](CpuPrepare& p) {
            const Upsample& op = p.op<Upsample>();
            if (op.mode == Interpolation::kNearest)
              return cpu_step(
                  [&op](CpuRun& run) { upsample_nearest(run.in(0), run.out(0), op.scale, run.threads()); });
            return cpu_step([&op](CpuRun& run) {
              with_float(run.in(0).dtype, [&]<class T>() { bilinear<T>(run, op.scale); });
            });
          }};
}

}  // namespace osprey
