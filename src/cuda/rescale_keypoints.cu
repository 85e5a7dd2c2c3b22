#include "cuda/boxes.cuh"
#include "cuda/numbers.cuh"
#include "ops/rescale_keypoints.h"

namespace osprey {
namespace {

using namespace cuda;

struct Job {
  const float4* keypoints;  // x, y, logit, score
  const RoiRow* boxes;
  const int* from;
  const GeometryRow* geometry;
  const int* rows;
  int bound, keypoints_a_row;
  bool logits;
  float* out;
};

__global__ void rescale(Job job) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int e = i / job.keypoints_a_row, k = i % job.keypoints_a_row;
  if (e >= live_rows(job.rows, job.bound)) return;
  const GeometryRow& g = job.geometry[static_cast<int>(job.boxes[e].image)];
  const float4 keypoint = job.keypoints[static_cast<std::int64_t>(job.from[e]) * job.keypoints_a_row + k];
  float* out = job.out + static_cast<std::int64_t>(i) * 3;
  out[0] = keypoint.x * g.scale_x;
  out[1] = keypoint.y * g.scale_y;
  out[2] = job.logits ? keypoint.z : keypoint.w;
}

}  // namespace

CudaKernel rescale_keypoints_cuda() {
  return {.op = &kOpInfo<RescaleKeypoints>, .dtypes = {DType::kF32}, .prepare = [](CudaPrepare& p) {
            return cuda_step([logits = p.op<RescaleKeypoints>().logits](CudaRun& run) {
              const std::int64_t bound = run.in(1).dims[0], keypoints = run.in(0).dims[1];
              if (bound * keypoints == 0) return;
              rescale<<<blocks_for(bound * keypoints), kBlock, 0, run.stream()>>>(
                  {run.in(0).as<float4>(), run.in(1).as<RoiRow>(), run.in(2).as<int>(),
                   run.in(3).as<GeometryRow>(), run.in(1).rows, static_cast<int>(bound),
                   static_cast<int>(keypoints), logits, run.out(0).as<float>()});
              cuda_check_launch("rescale_keypoints");
            });
          }};
}

}  // namespace osprey
