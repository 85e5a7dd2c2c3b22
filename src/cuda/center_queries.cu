// A thread a logit; that of a pixel's first class makes its box too.
#include "cuda/boxes.cuh"
#include "cuda/elementwise.cuh"
#include "ops/center_queries.h"

namespace osprey {
namespace {

using namespace cuda;

struct Job {
  const float *logits, *sizes, *offsets;  // channels last
  const GeometryRow* geometry;
  float *queries, *boxes;
  std::int64_t classes;
  int height, width, peak, before, stride;

  // The score of a class, none outside of the clip extents.
  __device__ float score(std::int64_t image, int y, int x, std::int64_t k) const {
    const GeometryRow& g = geometry[image];
    if (!(static_cast<float>(y) < g.clip_height && static_cast<float>(x) < g.clip_width)) return 0;
    return sigmoid_rounded(logits[((image * height + y) * width + x) * classes + k]);
  }

  __device__ bool is_peak(std::int64_t image, int y, int x, std::int64_t k) const {
    const float own = score(image, y, x, k);
    float most = own;
    const int top = max(y - before, 0), bottom = min(y - before + peak, height);
    const int left = max(x - before, 0), right = min(x - before + peak, width);
    for (int v = top; v < bottom; ++v)
      for (int u = left; u < right; ++u) most = fmaxf(most, score(image, v, u, k));
    return own > 0 && fabsf(own - most) < CenterQueries::kPeakEpsilon;
  }

  __device__ float fraction(float at, int pixels, float extent) const {
    const float on_map = fminf(fmaxf(at, 0.0f), static_cast<float>(pixels));
    return fminf(fmaxf(__fdiv_rn(on_map * static_cast<float>(stride), extent), 0.0f), 1.0f);
  }

  __device__ float4 box(std::int64_t row, const GeometryRow& g, int y, int x) const {
    const float half_height = fmaxf(sizes[row * 2], 0.0f) / 2.0f,
                half_width = fmaxf(sizes[row * 2 + 1], 0.0f) / 2.0f;
    const float cy = static_cast<float>(y) + offsets[row * 2],
                cx = static_cast<float>(x) + offsets[row * 2 + 1];
    const float top = fraction(cy - half_height, height, g.clip_height),
                bottom = fraction(cy + half_height, height, g.clip_height);
    const float left = fraction(cx - half_width, width, g.clip_width),
                right = fraction(cx + half_width, width, g.clip_width);
    return make_float4((left + right) / 2, (top + bottom) / 2, right - left, bottom - top);
  }

  __device__ void operator()(std::int64_t i) const {
    const std::int64_t row = i / classes, k = i % classes, pixels = static_cast<std::int64_t>(height) * width;
    const std::int64_t image = row / pixels;
    const int pixel = static_cast<int>(row % pixels), y = pixel / width, x = pixel % width;
    queries[i] = is_peak(image, y, x, k) ? logits[i] : -INFINITY;
    if (k == 0) reinterpret_cast<float4*>(boxes)[row] = box(row, geometry[image], y, x);
  }
};

void run_center_queries(const CenterQueries& op, CudaRun& run) {
  const Shape& dims = run.in(0).dims;
  const Job job{.logits = run.in(0).as<float>(),
                .sizes = run.in(1).as<float>(),
                .offsets = run.in(2).as<float>(),
                .geometry = run.in(3).as<GeometryRow>(),
                .queries = run.out(0).as<float>(),
                .boxes = run.out(1).as<float>(),
                .classes = dims[1],
                .height = static_cast<int>(dims[2]),
                .width = static_cast<int>(dims[3]),
                .peak = op.peak,
                .before = op.before(),
                .stride = op.stride};
  launch_elementwise(run.out(0), run.stream(), job);
}

}  // namespace

CudaKernel center_queries_cuda() {
  return {.op = &kOpInfo<CenterQueries>, .dtypes = {DType::kF32}, .prepare = [](CudaPrepare& p) {
            return cuda_step([op = p.op<CenterQueries>()](CudaRun& run) { run_center_queries(op, run); });
          }};
}

}  // namespace osprey
