// A block an image. Scores are sigmoids, in whose rounding several logits may meet; then the lower index
// comes first. So the logit that the last of the best reaches is found, and all logits whose sigmoid may be
// as large as its are ranked by their sigmoids. Where those are too many (near 1 hardly any two differ), the
// block ranks all candidates, slowly but exactly.
#include <algorithm>
#include <limits>

#include "cuda/block.cuh"
#include "cuda/boxes.cuh"
#include "cuda/numbers.cuh"
#include "ops/detect_queries.h"

namespace osprey {
namespace {

using namespace cuda;

constexpr int kThreads = 1024;
constexpr int kListed = 4096;          // ranks, at most
constexpr int kSortedInShared = 4096;  // more are sorted in global memory

struct Job {
  const float *logits, *boxes;
  const GeometryRow* geometry;
  const CudaParameters* parameters;
  Rank* sorted;    // [images, sorted_size]; null where shared memory does
  int* published;  // [images] (rows_before); null for one image
  int queries, classes, top, sorted_size;
  bool staged;  // an image's logits fit into shared memory
  float threshold;
  RoiRow* out_boxes;
  float* out_scores;
  int *out_classes, *out_rows;
  RowCounts rows;
};

// A logit that is not above that of any candidate whose sigmoid is at least `score`.
__device__ float logit_floor(float score) {
  if (!(score > 0)) return -INFINITY;
  const float p = fminf(score, 0.999f);  // beyond it rounding makes the inverse too coarse
  return logf(p / (1 - p)) - 0.01f;
}

__device__ Corners corners_of(const float* box, const GeometryRow& g) {
  const float cx = box[0], cy = box[1], w = box[2], h = box[3];
  return {(cx - 0.5f * w) * g.clip_width, (cy - 0.5f * h) * g.clip_height, (cx + 0.5f * w) * g.clip_width,
          (cy + 0.5f * h) * g.clip_height};
}

// The best `top` of `count` logits by sigmoid into `sorted`; returns how many.
__device__ int rank(const float* logits, int count, int top, Rank* listed, Rank* sorted, int sorted_size,
                    int* histogram) {
  const auto by_logit = [&](auto&& f) {
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads)
      f(rank_of(logits[i], static_cast<std::uint32_t>(i)));
  };
  const auto by_score = [&](auto&& f) {
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads)
      f(rank_of(sigmoid_rounded(logits[i]), static_cast<std::uint32_t>(i)));
  };
  const float least = sigmoid_rounded(score_of(find_bound(by_logit, top, kListed, histogram)));
  const float floor = logit_floor(least);
  __shared__ int found;
  if (threadIdx.x == 0) found = 0;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
    const float logit = logits[i];
    if (logit < floor) continue;
    const float score = sigmoid_rounded(logit);
    if (score < least) continue;
    const int at = atomicAdd(&found, 1);
    if (at < kListed) listed[at] = rank_of(score, static_cast<std::uint32_t>(i));
  }
  __syncthreads();
  const int length = found;
  if (length > kListed) return best_of(by_score, top, sorted, sorted_size, histogram);
  const auto from_list = [&](auto&& f) {
    for (int i = static_cast<int>(threadIdx.x); i < length; i += kThreads) f(listed[i]);
  };
  return best_of(from_list, top, sorted, sorted_size, histogram);
}

__global__ void __launch_bounds__(kThreads) detect(const __grid_constant__ Job job) {
  extern __shared__ Rank memory[];
  __shared__ int histogram[kDigits];
  __shared__ int kept;
  const int image = static_cast<int>(blockIdx.x), count = job.queries * job.classes;
  Rank *const listed = memory, *const shared_sorted = memory + kListed;
  Rank* const sorted =
      job.sorted ? job.sorted + static_cast<std::int64_t>(image) * job.sorted_size : shared_sorted;
  const float* logits = job.logits + static_cast<std::int64_t>(image) * count;
  if (job.staged) {
    auto* const staged = reinterpret_cast<float*>(shared_sorted + (job.sorted ? 0 : job.sorted_size));
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) staged[i] = __ldg(logits + i);
    logits = staged;
  }
  const int asked = job.parameters->max_detections;
  const int top = asked == -1 ? job.top : min(max(asked, 0), job.top);
  const float wanted = job.parameters->score_threshold;
  const float threshold = isnan(wanted) ? job.threshold : wanted;
  if (threadIdx.x == 0) kept = top;
  __syncthreads();
  if (top > 0) rank(logits, count, top, listed, sorted, job.sorted_size, histogram);
  for (int i = static_cast<int>(threadIdx.x); i < top; i += kThreads)
    if (!(score_of(sorted[i]) > threshold)) atomicMin(&kept, i);
  __syncthreads();
  const int before = job.published ? rows_before(job.published, image, kept) : 0;
  for (int i = static_cast<int>(threadIdx.x); i < kept; i += kThreads) {
    const auto index = static_cast<int>(index_of(sorted[i]));
    const int row = image * job.queries + index / job.classes, at = before + i;
    job.out_boxes[at] = {static_cast<float>(image),
                         corners_of(job.boxes + static_cast<std::int64_t>(row) * 4, job.geometry[image])};
    job.out_scores[at] = score_of(sorted[i]);
    job.out_classes[at] = index % job.classes;
    job.out_rows[at] = row;
  }
  if (threadIdx.x == 0 && blockIdx.x == gridDim.x - 1) job.rows.set(before + kept);
}

class DetectQueriesStep final : public CudaStep {
 public:
  explicit DetectQueriesStep(CudaPrepare& p)
      : op_(p.op<DetectQueries>()),
        images_(p.input(2).dims[0]),
        classes_(p.input(0).dims[1]),
        sorted_size_(sort_size(op_.top)) {
    const std::int64_t count = op_.queries * classes_;
    require(p.input(0).dims[0] * classes_ <= INT_MAX, "{}: {} candidates are more than the GPU takes",
            p.node().name, p.input(0).dims[0] * classes_);
    sorts_in_shared_ = sorted_size_ <= kSortedInShared;
    shared_ = sizeof(Rank) * static_cast<std::size_t>(kListed + (sorts_in_shared_ ? sorted_size_ : 0));
    const std::size_t room = p.device().shared_bytes_optin - sizeof(int) * (kDigits + 256);
    const std::size_t logits = static_cast<std::size_t>(count) * sizeof(float);
    staged_ = shared_ + logits <= room;
    if (staged_) shared_ += logits;
    cuda_check(
        cudaFuncSetAttribute(detect, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(room)),
        "detect_queries");
    p.request_scratch(sorted_bytes() + static_cast<std::size_t>(images_) * sizeof(int));
  }

  void launch(CudaRun& run) override {
    if (images_ == 0) {  // a batch of none
      for (std::size_t i = 0; i < 4; ++i)
        if (run.out(i).rows)
          cuda_check(cudaMemsetAsync(run.out(i).rows, 0, sizeof(int), run.stream()), "detect_queries");
      return;
    }
    auto* const published = reinterpret_cast<int*>(run.scratch() + sorted_bytes());
    if (images_ > 1)
      cuda_check(cudaMemsetAsync(published, 0, static_cast<std::size_t>(images_) * sizeof(int), run.stream()),
                 "detect_queries");
    const Job job{.logits = run.in(0).as<float>(),
                  .boxes = run.in(1).as<float>(),
                  .geometry = run.in(2).as<GeometryRow>(),
                  .parameters = run.parameters(),
                  .sorted = sorts_in_shared_ ? nullptr : reinterpret_cast<Rank*>(run.scratch()),
                  .published = images_ > 1 ? published : nullptr,
                  .queries = op_.queries,
                  .classes = static_cast<int>(classes_),
                  .top = op_.top,
                  .sorted_size = sorted_size_,
                  .staged = staged_,
                  .threshold = op_.threshold,
                  .out_boxes = run.out(0).as<RoiRow>(),
                  .out_scores = run.out(1).as<float>(),
                  .out_classes = run.out(2).as<int>(),
                  .out_rows = run.out(3).as<int>(),
                  .rows = RowCounts(run, 4)};
    detect<<<static_cast<unsigned>(images_), kThreads, shared_, run.stream()>>>(job);
    cuda_check_launch("detect_queries");
  }

  std::string detail() const override { return "own"; }

 private:
  std::size_t sorted_bytes() const {
    return sorts_in_shared_ ? 0 : static_cast<std::size_t>(images_ * sorted_size_) * sizeof(Rank);
  }

  const DetectQueries op_;
  const std::int64_t images_, classes_;
  const int sorted_size_;
  bool sorts_in_shared_ = true, staged_ = true;
  std::size_t shared_ = 0;
};

}  // namespace

CudaKernel detect_queries_cuda() {
  return {.op = &kOpInfo<DetectQueries>,
          .dtypes = {DType::kF32},
          .prepare = [](CudaPrepare& p) -> std::unique_ptr<CudaStep> {
            return std::make_unique<DetectQueriesStep>(p);
          },
          .selects_rows = true};
}

}  // namespace osprey
