// One block a map. The enlarged map is never stored: each thread goes down columns of it, keeping the four
// source rows it stands between, enlarged along the row first, as torch's bicubic does. Rows between the same
// source rows are passed over where these cannot make up a new maximum.
#include "cuda/block.cuh"
#include "cuda/boxes.cuh"
#include "cuda/numbers.cuh"
#include "ops/decode_keypoints.h"

namespace osprey {
namespace {

using namespace cuda;

constexpr float kLongest = 32768;  // pixels of an enlarged side; beyond it boxes are cut

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
  __syncthreads();  // of an earlier call
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

// starts[b + 1]: the first pixel of the enlarged axis whose base is at least b, for b from -1 to `size`.
__device__ void find_starts(int* starts, int pixels, float scale, int size) {
  for (int at = static_cast<int>(threadIdx.x); at <= pixels; at += kBlock) {
    const int first = at == 0 ? -1 : taps_of(at - 1, scale).base + 1;
    const int last = at == pixels ? size : min(taps_of(at, scale).base, size);
    for (int b = first; b <= last; ++b) starts[b + 1] = at;
  }
}

// Not below any value between the second and the third of four neighbours, roundings included: there the
// outer weights add up to no less than -0.1875.
__device__ float upper_bound(const float* v) {
  const float most = fmaxf(fmaxf(v[0], v[1]), fmaxf(v[2], v[3]));
  const float least = fminf(fminf(v[0], v[1]), fminf(v[2], v[3]));
  return most + 0.1876f * (most - least) + 1e-5f * (fabsf(most) + fabsf(least));
}

// A map in shared memory as it is enlarged to a box.
struct Enlarged {
  const float* map;
  int size;
  Side w, h;
  float scale_x, scale_y;
  int *columns, *rows;  // starts

  // Column x of source row y.
  __device__ float at(int y, const Taps& x) const {
    const float* from = map + held(y) * size;
    const float v[4] = {from[held(x.base - 1)], from[held(x.base)], from[held(x.base + 1)],
                        from[held(x.base + 2)]};
    return weighed(v, x);
  }
  __device__ float at(const Taps& y, const Taps& x) const {
    const float v[4] = {at(y.base - 1, x), at(y.base, x), at(y.base + 1, x), at(y.base + 2, x)};
    return weighed(v, y);
  }
  __device__ int held(int at) const { return min(max(at, 0), size - 1); }
};

// The first maximum in row-major order.
__device__ Peak find_peak(const Enlarged& e) {
  Peak best{-INFINITY, 0, 0};
  // One pixel between each four of the source gives a value that few come up to.
  for (int cell = static_cast<int>(threadIdx.x); cell < (e.size + 1) * (e.size + 1); cell += kBlock) {
    const int column = cell % (e.size + 1), row = cell / (e.size + 1);
    const int x = e.columns[column], y = e.rows[row];
    if (x == e.columns[column + 1] || y == e.rows[row + 1]) continue;
    const Peak here{e.at(taps_of(y, e.scale_y), taps_of(x, e.scale_x)), x, y};
    if (here.beats(best)) best = here;
  }
  best = block_peak(best);

  for (int x = static_cast<int>(threadIdx.x); x < e.w.pixels; x += kBlock) {
    const Taps column = taps_of(x, e.scale_x);
    float v[4] = {0, e.at(-2, column), e.at(-1, column), e.at(0, column)};
    for (int row = 0; row <= e.size; ++row) {  // between the source rows row - 1 and row
      v[0] = v[1], v[1] = v[2], v[2] = v[3];
      v[3] = e.at(row + 1, column);
      if (upper_bound(v) < best.value) continue;
      for (int y = e.rows[row]; y < e.rows[row + 1]; ++y) {
        const Peak here{weighed(v, taps_of(y, e.scale_y)), x, y};
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
  const Corners& box = rois[d].box;
  const Side w(box.width()), h(box.height());
  const auto side = static_cast<float>(size);
  const Enlarged enlarged{map,
                          size,
                          w,
                          h,
                          side / static_cast<float>(w.pixels),
                          side / static_cast<float>(h.pixels),
                          reinterpret_cast<int*>(map + pixels),
                          reinterpret_cast<int*>(map + pixels) + size + 2};
  find_starts(enlarged.columns, w.pixels, enlarged.scale_x, size);
  find_starts(enlarged.rows, h.pixels, enlarged.scale_y, size);
  __syncthreads();
  const Peak peak = find_peak(enlarged);
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
            const auto shared = static_cast<std::size_t>(size * size + 2 * (size + 2)) * sizeof(float);
            require(shared <= 47104, "{}: heat maps of {} x {}, the GPU takes up to 107 x 107", p.node().name,
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
