// One block a map. The enlarged map is never stored: each thread goes down columns of it, keeping the four
// source rows it stands between, enlarged along the row first, as torch's bicubic does.
#include "cuda/block.cuh"
#include "cuda/boxes.cuh"
#include "cuda/numbers.cuh"
#include "ops/decode_keypoints.h"

namespace osprey {
namespace {

using namespace cuda;

constexpr float kLongest = 32768;  // pixels of an enlarged side; beyond it boxes are cut
constexpr int kRowsAtOnce = 64;    // of which the weights are made together

// Four neighbours on one axis, from base - 1 on and held at the border, and their weights.
struct Taps {
  int base;
  float weight[4];
};

// torch's cubic convolution with a = -0.75.
__device__ Taps taps_of(int at, float scale) {
  constexpr float kA = -0.75f;
  const float real = scale * (static_cast<float>(at) + 0.5f) - 0.5f, base = floorf(real), t = real - base;
  const auto near = [](float x) { return ((kA + 2) * x - (kA + 3)) * x * x + 1; };
  const auto far = [](float x) { return ((kA * x - 5 * kA) * x + 8 * kA) * x - 4 * kA; };
  return {static_cast<int>(base), {far(t + 1), near(t), near(1 - t), far(2 - t)}};
}

__device__ float weighed(const float* v, const Taps& taps) {
  return v[0] * taps.weight[0] + v[1] * taps.weight[1] + v[2] * taps.weight[2] + v[3] * taps.weight[3];
}

// The side of a box and what it is enlarged to. Boxes that are not finite count as one pixel.
struct Side {
  float length;
  int pixels;
  __device__ explicit Side(float extent)
      : length(extent > 1 ? fminf(extent, kLongest) : 1), pixels(static_cast<int>(ceilf(length))) {}
};

struct Peak {
  float value;
  int x, y;
  // The greater one; of equal ones the first in row-major order.
  __device__ bool beats(const Peak& other) const {
    return value > other.value || (value == other.value && (y < other.y || (y == other.y && x < other.x)));
  }
};

__device__ Peak block_peak(Peak mine) {
  __shared__ Peak warps[kBlock / 32];
  for (int step = 16; step > 0; step /= 2) {
    const Peak other{__shfl_xor_sync(kAll, mine.value, step), __shfl_xor_sync(kAll, mine.x, step),
                     __shfl_xor_sync(kAll, mine.y, step)};
    if (other.beats(mine)) mine = other;
  }
  if (lane_of_thread() == 0) warps[warp_of_thread()] = mine;
  __syncthreads();
  mine = warps[0];
  for (int w = 1; w < kBlock / 32; ++w)
    if (warps[w].beats(mine)) mine = warps[w];
  return mine;
}

__device__ float block_float_sum(float v) {
  __shared__ float warps[kBlock / 32];
  for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(kAll, v, step);
  if (lane_of_thread() == 0) warps[warp_of_thread()] = v;
  __syncthreads();
  v = 0;
  for (const float w : warps) v += w;
  return v;
}

// The first maximum, in row-major order, of `map` enlarged to the box; for each thread that of its columns.
__device__ Peak find_peak(const float* map, int size, Side w, Side h) {
  __shared__ Taps rows[kRowsAtOnce];
  const float scale_x = static_cast<float>(size) / static_cast<float>(w.pixels);
  const float scale_y = static_cast<float>(size) / static_cast<float>(h.pixels);
  const auto held = [&](int at) { return min(max(at, 0), size - 1); };
  Peak best{-INFINITY, 0, 0};
  for (int top = 0; top < h.pixels; top += kRowsAtOnce) {
    const int count = min(kRowsAtOnce, h.pixels - top);
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < count)
      rows[threadIdx.x] = taps_of(top + static_cast<int>(threadIdx.x), scale_y);
    __syncthreads();
    for (int x = static_cast<int>(threadIdx.x); x < w.pixels; x += kBlock) {
      const Taps columns = taps_of(x, scale_x);
      const auto enlarged = [&](int y) {  // of source row y
        const float* from = map + held(y) * size;
        const float v[4] = {from[held(columns.base - 1)], from[held(columns.base)],
                            from[held(columns.base + 1)], from[held(columns.base + 2)]};
        return weighed(v, columns);
      };
      int base = rows[0].base;
      float v[4] = {enlarged(base - 1), enlarged(base), enlarged(base + 1), enlarged(base + 2)};
      for (int i = 0; i < count; ++i) {
        for (const int wanted = rows[i].base; base < wanted; ++base) {
          v[0] = v[1], v[1] = v[2], v[2] = v[3];
          v[3] = enlarged(base + 3);
        }
        const Peak here{weighed(v, rows[i]), x, top + i};
        if (here.beats(best)) best = here;
      }
    }
  }
  return block_peak(best);
}

// heatmaps [D,S,S,K] in memory.
__global__ void __launch_bounds__(kBlock) decode(const float* heatmaps, const RoiRow* rois, const int* live,
                                                 int bound, int keypoints, int size, float4* out) {
  extern __shared__ float map[];
  const int d = static_cast<int>(blockIdx.x), k = static_cast<int>(blockIdx.y);
  if (d >= live_rows(live, bound)) return;
  const int pixels = size * size;
  const float* from = heatmaps + static_cast<std::int64_t>(d) * pixels * keypoints + k;
  for (int i = static_cast<int>(threadIdx.x); i < pixels; i += kBlock)
    map[i] = from[static_cast<std::int64_t>(i) * keypoints];
  __syncthreads();
  const Corners& box = rois[d].box;
  const Side w(box.width()), h(box.height());
  const Peak peak = find_peak(map, size, w, h);
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < pixels; i += kBlock) sum += expf(map[i] - peak.value);
  sum = block_float_sum(sum);
  if (threadIdx.x > 0) return;
  out[d * keypoints + k] = {
      (static_cast<float>(peak.x) + 0.5f) * (w.length / static_cast<float>(w.pixels)) + box.x0,
      (static_cast<float>(peak.y) + 0.5f) * (h.length / static_cast<float>(h.pixels)) + box.y0, peak.value,
      1.0f / sum};
}

}  // namespace

CudaKernel decode_keypoints_cuda() {
  return {.op = &kOpInfo<DecodeKeypoints>, .dtypes = {DType::kF32}, .prepare = [](CudaPrepare& p) {
            const std::int64_t size = p.input(0).dims[2];
            const auto shared = static_cast<std::size_t>(size * size) * sizeof(float);
            require(shared <= 40960, "{}: heat maps of {} x {}, the GPU takes up to 100 x 100", p.node().name,
                    size, size);
            return cuda_step([shared](CudaRun& run) {
              const Shape& dims = run.in(0).dims;
              if (element_count(dims) == 0) return;
              const dim3 grid(static_cast<unsigned>(dims[0]), static_cast<unsigned>(dims[1]));
              decode<<<grid, kBlock, shared, run.stream()>>>(
                  run.in(0).as<float>(), run.in(1).as<RoiRow>(), run.in(1).rows, static_cast<int>(dims[0]),
                  static_cast<int>(dims[1]), static_cast<int>(dims[2]), run.out(0).as<float4>());
              cuda_check_launch("decode_keypoints");
            });
          }};
}

}  // namespace osprey
