// A block a box and row of bins: it finds the rows and columns of samples once, and each of its threads makes
// a few neighbouring channels of all bins, read and written side by side.
#include "cuda/boxes.cuh"
#include "cuda/numbers.cuh"
#include "cuda/roi_corners.h"
#include "ops/roi_align.h"

namespace osprey {
namespace {

using namespace cuda;

// Between which rows or columns of the map samples lie (cpu/roi_corners.cpp).
struct Tap {
  int lower, upper;
  float above;
  float lower_weight, upper_weight;
};

struct Job {
  const void* map;
  int height, width, channels;
  const RoiRow* rois;
  const int* rows;
  int bound;
  const GeometryRow* geometry;  // null: the canvas
  float canvas_height, canvas_width;
  int out, pool, side;
  bool neighbours;
  void* to;
};

__device__ float sample_at(float low, float high, int size, int i, int count) {
  const auto last = static_cast<float>(size - 1);
  if (count == 1) return 0.5f * (low + high) * last;
  const float step = (high - low) * last / static_cast<float>(count - 1);
  return low * last + static_cast<float>(i) * step;
}

__device__ Tap tap_of(float at, int size, bool neighbours) {
  const auto last = static_cast<float>(size - 1);
  const float margin = neighbours ? 1 : 0;
  if (!(at >= -margin && at <= last + margin)) return {};
  const float whole = floorf(at);
  const int lower = static_cast<int>(whole), upper = static_cast<int>(ceilf(at));
  const auto inside = [size](int pixel) { return pixel >= 0 && pixel < size ? 1.0f : 0.0f; };
  return {min(max(lower, 0), size - 1), min(max(upper, 0), size - 1), at - whole, inside(lower),
          inside(upper)};
}

// kEach elements of T side by side, read and written at once.
template <class T, int kEach>
struct alignas(sizeof(T) * kEach) Pack {
  T values[kEach];
};

template <class T, int kEach>
__global__ void __launch_bounds__(kBlock) crop(const __grid_constant__ Job job) {
  extern __shared__ Tap taps[];  // `pool` rows, then all columns
  const int r = static_cast<int>(blockIdx.x), by = static_cast<int>(blockIdx.y);
  if (r >= live_rows(job.rows, job.bound)) return;
  const RoiRow roi = job.rois[r];
  const auto image = static_cast<int>(roi.image);
  float height = job.canvas_height, width = job.canvas_width;
  if (job.geometry) height = job.geometry[image].clip_height, width = job.geometry[image].clip_width;
  const float y = 1 / height, x = 1 / width;
  for (int i = static_cast<int>(threadIdx.x); i < job.pool + job.out; i += static_cast<int>(blockDim.x)) {
    const bool row = i < job.pool;
    const int at = row ? by * job.pool + i : i - job.pool;
    taps[i] = row ? tap_of(sample_at(roi.box.y0 * y, roi.box.y1 * y, job.height, at, job.out), job.height,
                           job.neighbours)
                  : tap_of(sample_at(roi.box.x0 * x, roi.box.x1 * x, job.width, at, job.out), job.width,
                           job.neighbours);
  }
  __syncthreads();

  using Packed = Pack<T, kEach>;
  const int packs = job.channels / kEach;
  const auto* const map =
      static_cast<const Packed*>(job.map) + static_cast<std::int64_t>(image) * job.height * job.width * packs;
  auto* const to =
      static_cast<Packed*>(job.to) + (static_cast<std::int64_t>(r) * job.side + by) * job.side * packs;
  for (int c = static_cast<int>(threadIdx.x); c < packs; c += static_cast<int>(blockDim.x))
    for (int bx = 0; bx < job.side; ++bx) {
      float greatest[kEach];
#pragma unroll
      for (int k = 0; k < kEach; ++k) greatest[k] = -INFINITY;
      for (int p = 0; p < job.pool * job.pool; ++p) {
        const Tap v = taps[p / job.pool], h = taps[job.pool + bx * job.pool + p % job.pool];
        const auto at = [&](int row, int column) {
          return map[(static_cast<std::int64_t>(row) * job.width + column) * packs + c];
        };
        const Packed corners[4] = {at(v.lower, h.lower), at(v.lower, h.upper), at(v.upper, h.lower),
                                   at(v.upper, h.upper)};
#pragma unroll
        for (int k = 0; k < kEach; ++k) {
          const float top_left = widen(corners[0].values[k]) * (v.lower_weight * h.lower_weight);
          const float top_right = widen(corners[1].values[k]) * (v.lower_weight * h.upper_weight);
          const float bottom_left = widen(corners[2].values[k]) * (v.upper_weight * h.lower_weight);
          const float bottom_right = widen(corners[3].values[k]) * (v.upper_weight * h.upper_weight);
          const float top = top_left + (top_right - top_left) * h.above;
          const float bottom = bottom_left + (bottom_right - bottom_left) * h.above;
          const float value = top + (bottom - top) * v.above;
          greatest[k] = greatest[k] > value ? greatest[k] : value;
        }
      }
      Packed result;
#pragma unroll
      for (int k = 0; k < kEach; ++k) result.values[k] = narrow<T>(greatest[k]);
      to[bx * packs + c] = result;
    }
}

template <class T, int kEach>
void launch_crop(const Job& job, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(job.bound), static_cast<unsigned>(job.side));
  const int packs = job.channels / kEach, threads = std::min((packs + 31) / 32 * 32, kBlock);
  const std::size_t shared = static_cast<std::size_t>(job.pool + job.out) * sizeof(Tap);
  crop<T, kEach><<<grid, static_cast<unsigned>(threads), shared, stream>>>(job);
  cuda_check_launch("roi_align");
}

}  // namespace

std::unique_ptr<CudaStep> roi_corners_step(CudaPrepare& p) {
  const auto& op = p.op<RoiAlign>();
  require(op.out + op.pool <= 1024, "{}: the GPU takes up to {} samples a side", p.node().name,
          1024 - op.pool);
  const Shape& map = p.input(0).dims;
  return cuda_step([op, map](CudaRun& run) {
    const Job job{.map = run.in(0).data,
                  .height = static_cast<int>(map[2]),
                  .width = static_cast<int>(map[3]),
                  .channels = static_cast<int>(map[1]),
                  .rois = run.in(1).as<RoiRow>(),
                  .rows = run.in(1).rows,
                  .bound = static_cast<int>(run.in(1).dims[0]),
                  .geometry = op.canvas_height > 0 ? nullptr : run.in(2).as<GeometryRow>(),
                  .canvas_height = static_cast<float>(op.canvas_height),
                  .canvas_width = static_cast<float>(op.canvas_width),
                  .out = op.out,
                  .pool = op.pool,
                  .side = op.side(),
                  .neighbours = op.neighbours,
                  .to = run.out(0).data};
    if (job.bound == 0) return;
    with_float_type(run.out(0).dtype, [&](auto zero) {
      using T = decltype(zero);
      constexpr int kMost = 16 / static_cast<int>(sizeof(T));
      if (job.channels % kMost == 0) return launch_crop<T, kMost>(job, run.stream());
      launch_crop<T, 1>(job, run.stream());
    });
  });
}

}  // namespace osprey
