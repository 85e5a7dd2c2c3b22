// Channels side by side. Large maps are summed in strips of rows, in parallel; strips follow from the shape
// alone, so that results depend on nothing else.
#include "ops/global_average_pool.h"

#include <algorithm>

#include "cpu/floats.h"
#include "cpu/kernel.h"
#include "cpu/vectors.h"

namespace osprey {
namespace {

constexpr std::int64_t kGroup = 64;             // channels that are summed together
constexpr std::int64_t kStripPixels = 1 << 11;  // at least

// Pixels of a plane, from the first of which come `channels` lanes.
template <class T>
struct Pixels {
  const T* x;
  float* sums;
  std::int64_t count, lanes, channels;
};

template <class T>
[[gnu::always_inline]] inline void sum_pixels(const Pixels<T>* pixels) {
  float sums[kGroup] = {};
  const T* x = pixels->x;
  if (pixels->channels == kGroup) {
    for (std::int64_t p = 0; p < pixels->count; ++p, x += pixels->lanes)
      for (std::int64_t c = 0; c < kGroup; ++c) sums[c] += load_float(x[c]);
  } else {
    for (std::int64_t p = 0; p < pixels->count; ++p, x += pixels->lanes)
      for (std::int64_t c = 0; c < pixels->channels; ++c) sums[c] += load_float(x[c]);
  }
  std::copy_n(sums, pixels->channels, pixels->sums);
}

class GlobalAveragePoolStep final : public CpuStep {
 public:
  explicit GlobalAveragePoolStep(CpuPrepare& p) {
    const CpuPlanes planes(p.input(0));
    strip_ = std::min(planes.height, (kStripPixels + planes.width - 1) / planes.width);
    strips_ = (planes.height + strip_ - 1) / strip_;
    group_ = std::min(kGroup, planes.lanes);
    p.request_scratch(static_cast<std::size_t>(planes.count * planes.lanes * strips_) * sizeof(float));
  }

  void run(CpuRun& run) override {
    with_float(run.in(0).dtype, [&]<class T>() { pool<T>(run); });
  }

 private:
  template <class T>
  void pool(CpuRun& run) const {
    const CpuPlanes planes(run.in(0));
    const auto* x = reinterpret_cast<const T*>(run.in(0).data);
    auto* y = reinterpret_cast<T*>(run.out(0).data);
    auto* sums = reinterpret_cast<float*>(run.scratch().data());  // plane, strip, lane
    const std::int64_t groups = (planes.lanes + group_ - 1) / group_, lanes = planes.lanes;
    cpu_for(planes.count * strips_ * groups, run.threads(), [&](std::int64_t i) {
      const std::int64_t first = i % groups * group_, part = i / groups, top = part % strips_ * strip_;
      const Pixels<T> pixels{
          .x = x + part / strips_ * planes.plane_size() + top * planes.width * lanes + first,
          .sums = sums + part * lanes + first,
          .count = std::min(strip_, planes.height - top) * planes.width,
          .lanes = lanes,
          .channels = std::min(group_, lanes - first)};
      const Pixels<T>* const job = &pixels;
      vectorised<sum_pixels<T>>(job);
    });
    const auto area = static_cast<float>(planes.height * planes.width);
    cpu_for(planes.count, run.threads(), [&](std::int64_t plane) {
      T* to = y + plane / planes.per_image * planes.channels + plane % planes.per_image * lanes;
      for (std::int64_t c = 0; c < planes.live_lanes(plane); ++c) {
        float sum = 0;
        for (std::int64_t s = 0; s < strips_; ++s) sum += sums[(plane * strips_ + s) * lanes + c];
        to[c] = store_float<T>(sum / area);
      }
    });
  }

  std::int64_t strip_ = 1, strips_ = 1, group_ = 1;
};

}  // namespace

CpuKernel global_average_pool_cpu() {
  return {.op = &kOpInfo<GlobalAveragePool>,
          .dtypes = {DType::kF32, DType::kBF16},
          .input = any_port,
          .prepare = [](CpuPrepare& p) -> std::unique_ptr<CpuStep> {
            return std::make_unique<GlobalAveragePoolStep>(p);
          }};
}

}  // namespace osprey
