// A row at a time: its sum with the residual is kept in the result while mean and variance are taken, each in
// 16 partial sums.
#include "ops/layer_norm.h"

#include <algorithm>
#include <cmath>

#include "cpu/floats.h"
#include "cpu/kernel.h"
#include "cpu/vectors.h"

namespace osprey {
namespace {

constexpr std::int64_t kRows = 32;  // a task
constexpr std::int64_t kLanes = 16;

template <class T>
struct Rows {
  const T *x, *residual;  // residual may be null
  const float *scale, *bias;
  T* y;
  std::int64_t rows, width;
  float epsilon;
};

// The sum of f(i) over a row.
template <class F>
[[gnu::always_inline]] inline float sum_of(std::int64_t width, F f) {
  float parts[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes)
    for (std::int64_t k = 0; k < kLanes; ++k) parts[k] += f(i + k);
  for (; i < width; ++i) parts[i % kLanes] += f(i);
  for (std::int64_t half = kLanes / 2; half > 0; half /= 2)
    for (std::int64_t k = 0; k < half; ++k) parts[k] += parts[k + half];
  return parts[0];
}

template <class T>
[[gnu::always_inline]] inline void normalise(const Rows<T>* job) {
  const std::int64_t width = job->width;
  const float count = static_cast<float>(width);
  for (std::int64_t r = 0; r < job->rows; ++r) {
    const T* x = job->x + r * width;
    const T* residual = job->residual ? job->residual + r * width : nullptr;
    T* y = job->y + r * width;
    const auto value = [&](std::int64_t i) {
      return residual ? load_float(x[i]) + load_float(residual[i]) : load_float(x[i]);
    };
    const float mean = sum_of(width, value) / count;
    const float variance = sum_of(width,
                                  [&](std::int64_t i) {
                                    const float d = value(i) - mean;
                                    return d * d;
                                  }) /
                           count;
    const float factor = 1.0f / std::sqrt(variance + job->epsilon);
    for (std::int64_t i = 0; i < width; ++i)
      y[i] = store_float<T>((value(i) - mean) * factor * job->scale[i] + job->bias[i]);
  }
}

class LayerNormStep final : public CpuStep {
 public:
  explicit LayerNormStep(CpuPrepare& p)
      : epsilon_(p.op<LayerNorm>().epsilon),
        scale_(p.weight(1).to_f32()),
        bias_(p.weight(2).to_f32()),
        has_residual_(p.has_input(3)) {}

  void run(CpuRun& run) override {
    with_float(run.in(0).dtype, [&]<class T>() { all_rows<T>(run); });
  }

 private:
  template <class T>
  void all_rows(CpuRun& run) const {
    const auto x = run.input<T, 2>(0), residual = has_residual_ ? run.input<T, 2>(3) : View<const T, 2>{};
    const auto y = run.output<T, 2>(0);
    cpu_for((x.dim(0) + kRows - 1) / kRows, run.threads(), [&](std::int64_t chunk) {
      const std::int64_t first = chunk * kRows;
      const Rows<T> job{.x = x.at(first),
                        .residual = has_residual_ ? residual.at(first) : nullptr,
                        .scale = scale_.values<float>().data(),
                        .bias = bias_.values<float>().data(),
                        .y = y.at(first),
                        .rows = std::min(kRows, x.dim(0) - first),
                        .width = x.dim(1),
                        .epsilon = epsilon_};
      const Rows<T>* const pointer = &job;
      vectorised<normalise<T>>(pointer);
    });
  }

  const float epsilon_;
  const Tensor scale_, bias_;
  const bool has_residual_;
};

}  // namespace

CpuKernel layer_norm_cpu() {
  return {
      .op = &kOpInfo<LayerNorm>,
      .dtypes = {DType::kF32, DType::kBF16},
      .prepare = [](CpuPrepare& p) -> std::unique_ptr<CpuStep> { return std::make_unique<LayerNormStep>(p); },
      .in_place = {0, 3}};
}

}  // namespace osprey
