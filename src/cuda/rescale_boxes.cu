// One block goes through the rows, a thousand at a time: there are few of them.
#include "cuda/block.cuh"
#include "cuda/boxes.cuh"
#include "cuda/numbers.cuh"
#include "ops/rescale_boxes.h"

namespace osprey {
namespace {

using namespace cuda;

constexpr int kThreads = 1024;

struct Job {
  const RoiRow* boxes;
  const GeometryRow* geometry;
  const int* rows;
  int bound;
  bool clip, to_network;
  float min_size;
  int top;
  RoiRow* out;
  int* out_from;
  RowCounts out_rows;
};

// What boxes are multiplied by, and clipped to.
struct Frame {
  float factor_y, factor_x, height, width;
};

__device__ float quotient(float a, float b) {
  return static_cast<float>(static_cast<double>(a) / static_cast<double>(b));
}

__device__ Frame frame_of(const Job& job, const GeometryRow& g) {
  if (!job.to_network) return {g.scale_y, g.scale_x, g.height, g.width};
  if (!job.clip) return {quotient(1, g.scale_y), quotient(1, g.scale_x), g.clip_height, g.clip_width};
  return {quotient(g.clip_height, g.height), quotient(g.clip_width, g.width), g.clip_height, g.clip_width};
}

// std::min and std::max, of which NaN as the second argument is passed over.
__device__ float smaller(float a, float b) { return b < a ? b : a; }
__device__ float larger(float a, float b) { return a < b ? b : a; }

// Whether the row stays, and what becomes of it.
__device__ bool rescaled(const Job& job, RoiRow* roi) {
  const Frame to = frame_of(job, job.geometry[static_cast<int>(roi->image)]);
  Corners b{roi->box.x0 * to.factor_x, roi->box.y0 * to.factor_y, roi->box.x1 * to.factor_x,
            roi->box.y1 * to.factor_y};
  if (job.to_network) b = {smaller(b.x0, b.x1), smaller(b.y0, b.y1), larger(b.x0, b.x1), larger(b.y0, b.y1)};
  if (job.clip) b = clip_box(b, to.height, to.width);
  roi->box = b;
  return !job.clip || has_extent(b, job.min_size);
}

// The largest of the values of this and all threads before.
__device__ int block_inclusive_max(int v) {
  __shared__ int warps[32];
  const int lane = lane_of_thread();
  for (int step = 1; step < 32; step *= 2) {
    const int before = __shfl_up_sync(kAll, v, step);
    if (lane >= step) v = max(v, before);
  }
  if (lane == 31) warps[warp_of_thread()] = v;
  __syncthreads();
  for (int w = 0; w < warp_of_thread(); ++w) v = max(v, warps[w]);
  __syncthreads();
  return v;
}

__global__ void __launch_bounds__(kThreads) rescale(Job job) {
  __shared__ int last_start;
  const int live = live_rows(job.rows, job.bound);
  int passed = 0, written = 0;  // rows that stay but for `top`, and rows that stay
  int image_start = 0;          // of `passed`, at the beginning of the image in hand
  for (int first = 0; first < live; first += kThreads) {
    const int r = first + static_cast<int>(threadIdx.x);
    RoiRow roi{};
    bool stays = false, starts = false;
    if (r < live) {
      roi = job.boxes[r];
      starts = r == 0 || job.boxes[r - 1].image != roi.image;
      stays = rescaled(job, &roi);
    }
    int total;
    if (job.top > 0) {
      const int place = passed + block_exclusive_sum(stays, &total);
      const int start = block_inclusive_max(starts ? place : image_start);
      stays = stays && place - start < job.top;
      passed += total;
      if (threadIdx.x == kThreads - 1) last_start = start;
      __syncthreads();
      image_start = last_start;
    }
    const int at = written + block_exclusive_sum(stays, &total);
    if (stays) job.out[at] = roi, job.out_from[at] = r;
    written += total;
  }
  if (threadIdx.x == 0) job.out_rows.set(written);
}

}  // namespace

CudaKernel rescale_boxes_cuda() {
  return {.op = &kOpInfo<RescaleBoxes>,
          .dtypes = {DType::kF32},
          .prepare =
              [](CudaPrepare& p) {
                return cuda_step([op = p.op<RescaleBoxes>()](CudaRun& run) {
                  rescale<<<1, kThreads, 0, run.stream()>>>(
                      {run.in(0).as<RoiRow>(), run.in(1).as<GeometryRow>(), run.in(0).rows,
                       static_cast<int>(run.in(0).dims[0]), op.clip, op.to_network, op.min_size, op.top,
                       run.out(0).as<RoiRow>(), run.out(1).as<int>(), RowCounts(run, 2)});
                  cuda_check_launch("rescale_boxes");
                });
              },
          .selects_rows = true};
}

}  // namespace osprey
