// Two launches, a warp a roi: count says how many rows each roi gives, write adds up what comes before.
#include "cuda/block.cuh"
#include "cuda/boxes.cuh"
#include "cuda/numbers.cuh"
#include "ops/select_boxes.h"

namespace osprey {
namespace {

using namespace cuda;

constexpr int kWarps = kBlock / 32;

struct Job {
  const RoiRow* rois;
  const float *scores, *deltas;
  const GeometryRow* geometry;
  const int* rows;
  int bound, classes;
  bool class_agnostic;
  float threshold;
  BoxDecoder decode;
  const CudaParameters* parameters;
  int* counts;  // [bound]
  RoiRow* out_boxes;
  float* out_scores;
  int* out_classes;
  RowCounts out_rows;

  __device__ float least() const {
    const float wanted = parameters->score_threshold;
    return isnan(wanted) ? threshold : wanted;
  }
  __device__ const float* scores_of(int r) const {
    return scores + static_cast<std::int64_t>(r) * (classes + 1);
  }
  __device__ Corners decoded(int r, int k) const {
    const std::int64_t at = class_agnostic ? r : static_cast<std::int64_t>(r) * classes + k;
    const float4 d = reinterpret_cast<const float4*>(deltas)[at];
    const float delta[4] = {d.x, d.y, d.z, d.w};
    return decode(rois[r].box, delta);
  }
};

// The warp's roi.
__device__ int roi_of_warp() { return static_cast<int>(blockIdx.x) * kWarps + warp_of_thread(); }

__global__ void __launch_bounds__(kBlock) count(Job job) {
  const int r = roi_of_warp(), lane = lane_of_thread();
  if (r >= live_rows(job.rows, job.bound)) return;
  const float least = job.least();
  const float* scores = job.scores_of(r);
  int above = 0;
  bool finite = true;
  for (int k = lane; k <= job.classes; k += 32) {
    above += k < job.classes && scores[k] > least;
    finite = finite && isfinite(scores[k]);
  }
  above = warp_sum(above);
  if (above > 0)
    for (int k = lane; finite && k < (job.class_agnostic ? 1 : job.classes); k += 32)
      finite = is_finite(job.decoded(r, k));
  finite = __all_sync(kAll, finite);
  if (lane == 0) job.counts[r] = finite ? above : 0;
}

__global__ void __launch_bounds__(kBlock) write(Job job) {
  const int live = live_rows(job.rows, job.bound), first = static_cast<int>(blockIdx.x) * kWarps;
  if (first >= max(live, 1)) return;
  int before = 0;
  for (int r = static_cast<int>(threadIdx.x); r < first; r += kBlock) before += job.counts[r];
  before = block_sum(before);
  const int r = roi_of_warp(), lane = lane_of_thread();
  for (int earlier = first; earlier < min(r, live); ++earlier) before += job.counts[earlier];
  const int mine = r < live ? job.counts[r] : 0;
  if (warp_of_thread() == kWarps - 1 && lane == 0 && first + kWarps >= live) job.out_rows.set(before + mine);
  if (mine == 0) return;

  const float least = job.least();
  const float* scores = job.scores_of(r);
  const float image = job.rois[r].image;
  const GeometryRow& g = job.geometry[static_cast<int>(image)];
  for (int start = 0; start < job.classes; start += 32) {
    const int k = start + lane;
    const bool selected = k < job.classes && scores[k] > least;
    const unsigned chosen = __ballot_sync(kAll, selected);
    if (selected) {
      const int at = before + __popc(chosen & ((1u << lane) - 1));
      job.out_boxes[at] = {image, clip_box(job.decoded(r, k), g.clip_height, g.clip_width)};
      job.out_scores[at] = scores[k];
      job.out_classes[at] = k;
    }
    before += __popc(chosen);
  }
}

}  // namespace

CudaKernel select_boxes_cuda() {
  return {.op = &kOpInfo<SelectBoxes>,
          .dtypes = {DType::kF32},
          .prepare =
              [](CudaPrepare& p) {
                const auto& declined = p.op<SelectBoxes>();
                require(
                    declined.clip && !declined.background_first && declined.delta_order == DeltaOrder::kXywh,
                    "{}: the GPU does not select by TensorFlow's rules yet", p.node().name);

                p.request_scratch(static_cast<std::size_t>(p.input(0).dims[0]) * sizeof(int));
                return cuda_step([op = p.op<SelectBoxes>()](CudaRun& run) {
                  const Shape &scores = run.in(1).dims, &deltas = run.in(2).dims;
                  const Job job{.rois = run.in(0).as<RoiRow>(),
                                .scores = run.in(1).as<float>(),
                                .deltas = run.in(2).as<float>(),
                                .geometry = run.in(3).as<GeometryRow>(),
                                .rows = run.in(0).rows,
                                .bound = static_cast<int>(scores[0]),
                                .classes = static_cast<int>(scores[1] - 1),
                                .class_agnostic = deltas[1] == 4,
                                .threshold = op.threshold,
                                .decode = BoxDecoder(op.weights, op.max_log_scale),
                                .parameters = run.parameters(),
                                .counts = reinterpret_cast<int*>(run.scratch()),
                                .out_boxes = run.out(0).as<RoiRow>(),
                                .out_scores = run.out(1).as<float>(),
                                .out_classes = run.out(2).as<int>(),
                                .out_rows = RowCounts(run, 3)};
                  const unsigned blocks = std::max(blocks_for(scores[0], kWarps), 1u);
                  count<<<blocks, kBlock, 0, run.stream()>>>(job);
                  write<<<blocks, kBlock, 0, run.stream()>>>(job);
                  cuda_check_launch("select_boxes");
                });
              },
          .selects_rows = true};
}

}  // namespace osprey
