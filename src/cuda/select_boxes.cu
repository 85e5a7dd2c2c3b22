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
  bool class_agnostic, yx_first, clip;
  int first_column;               // that is class 0
  int delta_boxes, first_deltas;  // in fours: of a roi, and of these the background's
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
  // Of all columns, the background's among them.
  __device__ const float* columns_of(int r) const {
    return scores + static_cast<std::int64_t>(r) * (classes + 1);
  }
  __device__ float score(int r, int k) const { return columns_of(r)[k + first_column]; }
  __device__ Corners decoded(int r, int k) const {
    const std::int64_t at =
        static_cast<std::int64_t>(r) * delta_boxes + first_deltas + (class_agnostic ? 0 : k);
    return decode(rois[r].box, in_xywh(reinterpret_cast<const float4*>(deltas)[at], yx_first));
  }
  // Whether the pair is a candidate by itself. (With `clip` the whole roi has to be finite, too.)
  __device__ bool selects(int r, int k, float least) const {
    return k < classes && score(r, k) > least && (clip || !has_nan(decoded(r, k)));
  }
  __device__ bool finite(int r, int lane) const {
    bool finite = true;
    for (int k = lane; k <= classes; k += 32) finite = finite && isfinite(columns_of(r)[k]);
    for (int k = lane; finite && k < (class_agnostic ? 1 : classes); k += 32)
      finite = is_finite(decoded(r, k));
    return __all_sync(cuda::kAll, finite);
  }
};

// The warp's roi.
__device__ int roi_of_warp() { return static_cast<int>(blockIdx.x) * kWarps + warp_of_thread(); }

__global__ void __launch_bounds__(kBlock) count(Job job) {
  const int r = roi_of_warp(), lane = lane_of_thread();
  if (r >= live_rows(job.rows, job.bound)) return;
  const float least = job.least();
  int above = 0;
  for (int k = lane; k < job.classes; k += 32) above += job.selects(r, k, least);
  above = warp_sum(above);
  if (above > 0 && job.clip && !job.finite(r, lane)) above = 0;
  if (lane == 0) job.counts[r] = above;
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
  const float image = job.rois[r].image;
  const GeometryRow& g = job.geometry[static_cast<int>(image)];
  for (int start = 0; start < job.classes; start += 32) {
    const int k = start + lane;
    const bool selected = job.selects(r, k, least);
    const unsigned chosen = __ballot_sync(kAll, selected);
    if (selected) {
      const int at = before + __popc(chosen & ((1u << lane) - 1));
      const Corners box = job.decoded(r, k);
      const float edge = job.decode.pixel;
      job.out_boxes[at] = {image, job.clip ? clip_box(box, g.clip_height - edge, g.clip_width - edge) : box};
      job.out_scores[at] = job.score(r, k);
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
                p.request_scratch(static_cast<std::size_t>(p.input(0).dims[0]) * sizeof(int));
                return cuda_step([op = p.op<SelectBoxes>()](CudaRun& run) {
                  const Shape& scores = run.in(1).dims;
                  const auto delta_boxes = static_cast<int>(run.in(2).dims[1] / 4);
                  const int first_deltas = op.background_deltas ? 1 : 0;
                  const Job job{.rois = run.in(0).as<RoiRow>(),
                                .scores = run.in(1).as<float>(),
                                .deltas = run.in(2).as<float>(),
                                .geometry = run.in(3).as<GeometryRow>(),
                                .rows = run.in(0).rows,
                                .bound = static_cast<int>(scores[0]),
                                .classes = static_cast<int>(scores[1] - 1),
                                .class_agnostic = delta_boxes - first_deltas == 1,
                                .yx_first = op.delta_order == DeltaOrder::kYxhw,
                                .clip = op.clip,
                                .first_column = op.background_first ? 1 : 0,
                                .delta_boxes = delta_boxes,
                                .first_deltas = first_deltas,
                                .threshold = op.threshold,
                                .decode = BoxDecoder(op.weights, op.max_log_scale, op.inclusive),
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
