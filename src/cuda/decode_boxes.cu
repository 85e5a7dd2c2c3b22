#include "cuda/boxes.cuh"
#include "cuda/numbers.cuh"
#include "ops/decode_boxes.h"

namespace osprey {
namespace {

using namespace cuda;

struct Job {
  const RoiRow* rois;
  const float* deltas;
  const GeometryRow* geometry;
  const int* rows;
  int bound;
  BoxDecoder decode;
  bool clip;
  RoiRow* out;
};

__global__ void decode_rows(Job job) {
  const int r = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (r >= live_rows(job.rows, job.bound)) return;
  const RoiRow roi = job.rois[r];
  Corners box = job.decode(roi.box, reinterpret_cast<const float4*>(job.deltas)[r]);
  if (job.clip) {
    const GeometryRow& g = job.geometry[static_cast<int>(roi.image)];
    box = clip_box(box, g.clip_height, g.clip_width);
  }
  job.out[r] = {roi.image, box};
}

}  // namespace

CudaKernel decode_boxes_cuda() {
  return {.op = &kOpInfo<DecodeBoxes>, .dtypes = {DType::kF32}, .prepare = [](CudaPrepare& p) {
            return cuda_step([op = p.op<DecodeBoxes>()](CudaRun& run) {
              const std::int64_t bound = run.in(0).dims[0];
              if (bound == 0) return;
              decode_rows<<<blocks_for(bound), kBlock, 0, run.stream()>>>(
                  {run.in(0).as<RoiRow>(), run.in(1).as<float>(), run.in(2).as<GeometryRow>(), run.in(0).rows,
                   static_cast<int>(bound), BoxDecoder(op.weights, op.max_log_scale), op.clip,
                   run.out(0).as<RoiRow>()});
              cuda_check_launch("decode_boxes");
            });
          }};
}

}  // namespace osprey
