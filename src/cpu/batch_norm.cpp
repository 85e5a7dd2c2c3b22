#include "ops/batch_norm.h"

#include <cmath>
#include <vector>

#include "cpu/floats.h"
#include "cpu/kernel.h"

namespace osprey {
namespace {

// y = x * factor + offset, per channel; padded lanes have factor and offset 0.
struct Affine {
  std::vector<float> factor, offset;
};

Affine affine_of(const CpuPrepare& p) {
  const auto channels = static_cast<std::size_t>(p.input(0).dims[1]);
  const CpuPlanes planes(p.input(0));
  const auto padded = static_cast<std::size_t>(planes.per_image * planes.lanes);
  Affine out{std::vector<float>(padded), std::vector<float>(padded)};
  const Tensor scale = p.weight(1).to_f32(), bias = p.weight(2).to_f32(), mean = p.weight(3).to_f32(),
               variance = p.weight(4).to_f32();
  for (std::size_t c = 0; c < channels; ++c) {
    out.factor[c] =
        scale.values<float>()[c] / std::sqrt(variance.values<float>()[c] + p.op<BatchNorm>().epsilon);
    out.offset[c] = bias.values<float>()[c] - mean.values<float>()[c] * out.factor[c];
  }
  return out;
}

template <class T>
void normalize(CpuRun& run, const Affine& affine) {
  const CpuPlanes planes(run.in(0));
  const auto* x = reinterpret_cast<const T*>(run.in(0).data);
  auto* y = reinterpret_cast<T*>(run.out(0).data);
  const std::int64_t row = planes.width * planes.lanes;
  cpu_for(planes.count * planes.height, run.threads(), [&](std::int64_t i) {
    const auto channel = static_cast<std::size_t>(i / planes.height % planes.per_image * planes.lanes);
    const float *factor = &affine.factor[channel], *offset = &affine.offset[channel];
    for (std::int64_t p = 0; p < row; p += planes.lanes)
      for (std::int64_t k = 0; k < planes.lanes; ++k) {
        const std::int64_t at = i * row + p + k;
        y[at] = store_float<T>(load_float(x[at]) * factor[k] + offset[k]);
      }
  });
}

}  // namespace

CpuKernel batch_norm_cpu() {
  return {.op = &kOpInfo<BatchNorm>,
          .dtypes = {DType::kF32, DType::kBF16},
          .input = any_port,
          .output = any_port,
          .prepare =
              [](CpuPrepare& p) {
                return cpu_step([affine = affine_of(p)](CpuRun& run) {
                  with_float(run.in(0).dtype, [&]<class T>() { normalize<T>(run, affine); });
                });
              },
          .in_place = {0}};
}

}  // namespace osprey
