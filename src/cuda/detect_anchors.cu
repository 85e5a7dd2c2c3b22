// Three launches for all levels:
//   sample  one block an image reads a part of the logits, spread over the levels, and finds the logit that
//   about
//           kPortion candidates reach.
//   gather  many blocks read all logits once, and list those that do.
//   finish  one block an image decodes them and goes through the suppression (cuda/greedy.cuh). Where that
//   needs
//           worse candidates, or the list was too short for those there were, it looks for them itself,
//           slowly but exactly.
//
// Score maps are channels last, so that a column's place in memory is level, y, x, anchor, column.
#include <limits>

#include "cuda/greedy.cuh"
#include "cuda/numbers.cuh"
#include "cuda/score_scan.cuh"
#include "ops/detect_anchors.h"

namespace osprey {
namespace {

using namespace cuda;

constexpr int kMostLevels = 8;
constexpr int kSampleThreads = 1024, kGatherThreads = 256;
constexpr int kAsked = 512;
constexpr unsigned kSampled = 32768;        // logits that are read of an image, about
constexpr int kFewestSampled = 4;           // that stand for the candidates listed: fewer would be chance
constexpr std::int64_t kLeastChunk = 2048;  // logits a block of gather() reads
constexpr int kBins = 2048;
constexpr float kLeastBin = -20, kBinsPerUnit = kBins / 40.0f;  // of the sample's logits

struct Level {
  const float *scores, *deltas;
  unsigned count;            // logits of an image
  unsigned rows, first_row;  // anchors of an image
  unsigned width, anchors, first_cell;
  float stride_y, stride_x, offset_y, offset_x;
  unsigned first_chunk, chunk;
};

struct Job {
  Level levels[kMostLevels];
  int level_count;
  unsigned rows, classes, columns, first_column;
  unsigned sample_step;  // in quads of logits
  bool is_softmax, best_class_only, agnostic, clip_anchors, last_stage;
  float threshold, iou, decay;
  int max_per_class, max_detections;
  KeptClip clip;
  float canvas_height, canvas_width;  // 0: the geometry's
  bool yx_first;                      // deltas are y, x, height, width
  BoxDecoder decode;
  const float* cells;
  const GeometryRow* geometry;
  const CudaParameters* parameters;
  GreedySizes sizes;
  std::int64_t image_bytes;
  std::byte* memory;  // of all images, image_bytes each
  float* floors;      // [images]: scores that are gathered are at least that
  int* gathered;      // [images]
  int* published;     // [images] (rows_before)
  RoiRow* boxes;
  float* scores;
  int* out_classes;
  int* out_rows;
  RowCounts counts;

  __device__ float score_threshold() const {
    const float wanted = last_stage ? parameters->score_threshold : parameters->first_score_threshold;
    return isnan(wanted) ? threshold : wanted;
  }
};

// A logit that is not above that of any candidate whose probability is at least `score`.
__device__ float logit_floor(float score) {
  if (!(score > 0)) return -std::numeric_limits<float>::max();
  const float p = fminf(score, 0.999f);  // beyond it rounding makes the inverse too coarse
  return logf(p / (1 - p)) - 0.01f;
}

__device__ float softmax_of_two(float background, float logit) {
  const float largest = fmaxf(background, logit);
  const float other = exp_rounded(background - largest), mine = exp_rounded(logit - largest);
  return mine / (other + mine);
}

// The candidates of a level of an image as logits and scores.
struct Logits {
  const Job& job;
  const Level& level;
  const float* values;

  __device__ Logits(const Job& j, int l, int image)
      : job(j),
        level(j.levels[l]),
        values(j.levels[l].scores + static_cast<std::int64_t>(image) * j.levels[l].count) {}

  // Whether column i counts, before its score is known; a softmax's logit is its distance to the
  // background's.
  __device__ bool counts(unsigned i) const {
    return job.first_column == 0 || i % job.columns >= job.first_column;
  }
  // From i on, a multiple of four; 0 beyond the last.
  __device__ float4 four_at(unsigned i) const {
    const float* const from = values + i;
    if (reinterpret_cast<std::uintptr_t>(from) % 16 == 0 && i + 4 <= level.count)
      return __ldg(reinterpret_cast<const float4*>(from));
    const auto at = [&](unsigned k) { return i + k < level.count ? from[k] : 0.0f; };
    return {at(0), at(1), at(2), at(3)};
  }
  __device__ float score(unsigned i, float raw) const {
    return job.is_softmax ? softmax_of_two(values[i - 1], values[i]) : sigmoid_rounded(raw);
  }
  __device__ bool is_best(unsigned i, float raw) const {
    const unsigned column = i % job.columns, first = i - column;
    for (unsigned k = job.first_column; k < job.columns; ++k) {
      const float other = __ldg(values + first + k);
      if (other > raw || (other == raw && k < column)) return false;
    }
    return true;
  }
  // The same by a warp.
  __device__ bool is_best_by_warp(unsigned i, float raw) const {
    const unsigned column = i % job.columns, first = i - column;
    bool better = false;
    for (unsigned k = job.first_column + static_cast<unsigned>(lane_of_thread()); k < job.columns; k += 32) {
      const float other = __ldg(values + first + k);
      better = better || other > raw || (other == raw && k < column);
    }
    return !__any_sync(kAll, better);
  }
  __device__ Rank rank(unsigned i, float score) const {
    const unsigned row = level.first_row + i / job.columns,
                   classification = i % job.columns - job.first_column;
    return rank_of(score,
                   job.agnostic ? row * job.classes + classification : classification * job.rows + row);
  }
  // Offers column i, whose logit is at least the floor: f(rank) if its score is above the threshold.
  template <class F>
  __device__ void offer(unsigned i, float raw, float threshold, F&& f) const {
    if (!counts(i)) return;
    const float s = score(i, raw);
    if (!(s > threshold) || (job.best_class_only && !is_best(i, raw))) return;
    f(rank(i, s));
  }

  // Calls f(index, logit) for the columns of [begin, end) whose logit is at least `floor`, with all threads
  // of the block. (Of a softmax [begin, end) holds whole pairs.)
  template <class F>
  __device__ void each(unsigned begin, unsigned end, float floor, F&& f) const {
    const unsigned thread = threadIdx.x, threads = blockDim.x;
    if (job.is_softmax) {
      for (unsigned i = begin + 2 * thread; i < end; i += 2 * threads) {
        const float2 v = __ldg(reinterpret_cast<const float2*>(values + i));
        if (v.y - v.x >= floor) f(i + 1, v.y - v.x);
      }
      return;
    }
    each_score(values, begin, end, floor, [&](float raw, unsigned i) { f(i, raw); });
  }
};

// Of logits, from the least one up; the end bins hold what lies beyond them, too.
struct Bins {
  float least, per_unit;

  __device__ int of(float logit) const {
    return static_cast<int>(fminf(fmaxf((logit - least) * per_unit, 0.0f), kBins - 1));
  }
  __device__ float edge(int bin) const { return least + static_cast<float>(bin) / per_unit; }
  __device__ Bins within(int bin) const { return {edge(bin), per_unit * kBins}; }
};

__global__ void __launch_bounds__(kSampleThreads) sample(const __grid_constant__ Job job) {
  __shared__ int histogram[kBins];
  const int image = static_cast<int>(blockIdx.x), step = static_cast<int>(job.sample_step);
  const float threshold = job.score_threshold(), floor = logit_floor(threshold);
  const auto count = [&](const Bins& bins, auto&& is_wanted) {
    for (int i = static_cast<int>(threadIdx.x); i < kBins; i += kSampleThreads) histogram[i] = 0;
    __syncthreads();
    for (int l = 0; l < job.level_count; ++l) {
      const Logits logits(job, l, image);
      for (unsigned i = 4 * job.sample_step * threadIdx.x; i < logits.level.count;
           i += 4 * job.sample_step * kSampleThreads) {
        const float4 v = logits.four_at(i);  // a sector for each lane: as few loads as may be
        const float four[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (unsigned k = 0; k < 4; ++k) {
          if (i + k >= logits.level.count || !logits.counts(i + k)) continue;
          const float raw = job.is_softmax ? four[k] - four[k > 0 ? k - 1 : 0] : four[k];
          if (raw >= floor && is_wanted(raw)) atomicAdd(histogram + bins.of(raw), 1);
        }
      }
    }
    __syncthreads();
  };
  Bins bins{kLeastBin, kBinsPerUnit};
  count(bins, [](float) { return true; });
  const int wanted = max(kPortion / step, kFewestSampled);
  DigitFound found = find_digit<kBins>(histogram, wanted);
  const bool below_all = found.digit == 0;
  // Logits that lie close: the bin holds more than can be listed, and is divided once more.
  if (!below_all && static_cast<long long>(found.above + found.count) * step > kListed / 2) {
    const Bins coarse = bins;
    const int crowded = found.digit;
    bins = coarse.within(crowded);
    count(bins, [&](float raw) { return coarse.of(raw) == crowded; });
    found = find_digit<kBins>(histogram, wanted - found.above);
  }
  if (threadIdx.x != 0) return;
  // The lowest bin holds all that is below it, too; a hair less than the bin's edge for its rounding.
  const float edge = bins.edge(found.digit) - 0.05f / bins.per_unit;
  job.floors[image] = below_all ? -INFINITY : sigmoid_rounded(edge);
  job.gathered[image] = 0;
  job.published[image] = 0;
}

__device__ GreedyMemory memory_of(const Job& job, int image) {
  return greedy_memory(job.memory + image * job.image_bytes, job.sizes);
}

// Whether a candidate is its anchor's best is asked of many other logits: of the first kAsked candidates of a
// block by whole warps, behind the scan, since their lanes would wait for each other in it.
__global__ void __launch_bounds__(kGatherThreads) gather(const __grid_constant__ Job job) {
  struct Candidate {
    unsigned index;
    float raw, score;
  };
  __shared__ Candidate asked[kAsked];
  __shared__ int asking;
  const unsigned block = blockIdx.x;
  const int image = static_cast<int>(blockIdx.y);
  int l = 0;
  while (l + 1 < job.level_count && job.levels[l + 1].first_chunk <= block) ++l;
  const Logits logits(job, l, image);
  const unsigned begin = (block - logits.level.first_chunk) * logits.level.chunk;
  const unsigned end = min(logits.level.count, begin + logits.level.chunk);
  const float least = job.floors[image], threshold = job.score_threshold();
  Rank* const listed = memory_of(job, image).listed;
  const auto list = [&](Rank rank) {
    const int at = atomicAdd(job.gathered + image, 1);
    if (at < kListed) listed[at] = rank;
  };
  if (threadIdx.x == 0) asking = 0;
  __syncthreads();
  logits.each(begin, end, logit_floor(fmaxf(least, threshold)), [&](unsigned i, float raw) {
    if (!logits.counts(i)) return;
    const float score = logits.score(i, raw);
    if (!(score > threshold) || !(score >= least)) return;
    if (job.best_class_only) {
      const int at = atomicAdd(&asking, 1);
      if (at < kAsked) {
        asked[at] = {i, raw, score};
        return;
      }
      if (!logits.is_best(i, raw)) return;
    }
    list(logits.rank(i, score));
  });
  __syncthreads();
  const int count = min(asking, kAsked);
  for (int k = warp_of_thread(); k < count; k += kGatherThreads / 32) {
    const Candidate& c = asked[k];
    if (logits.is_best_by_warp(c.index, c.raw) && lane_of_thread() == 0) list(logits.rank(c.index, c.score));
  }
}

// Candidates as cuda/greedy.cuh takes them.
struct Source {
  const Job& job;
  int image;

  template <class F>
  __device__ void each(Rank below, F&& f) const {
    const float threshold = job.score_threshold();
    for (int l = 0; l < job.level_count; ++l) {
      const Logits logits(job, l, image);
      logits.each(0, logits.level.count, logit_floor(threshold), [&](unsigned i, float raw) {
        logits.offer(i, raw, threshold, [&](Rank rank) {
          if (rank < below) f(rank);
        });
      });
    }
  }
  __device__ int row(Rank rank) const {
    const unsigned index = index_of(rank);
    return static_cast<int>(job.agnostic ? index / job.classes : index % job.rows);
  }
  __device__ int classification(Rank rank) const {
    const unsigned index = index_of(rank);
    return static_cast<int>(job.agnostic ? index % job.classes : index / job.rows);
  }
  __device__ int group(Rank rank) const { return job.agnostic ? 0 : classification(rank); }

  __device__ bool box(Rank rank, Corners* out) const {
    const auto of_image = static_cast<unsigned>(row(rank));
    int l = 0;
    while (l + 1 < job.level_count && job.levels[l + 1].first_row <= of_image) ++l;
    const Level& level = job.levels[l];
    const unsigned at = of_image - level.first_row, anchor = at % level.anchors, pixel = at / level.anchors;
    const float shift_y = (static_cast<float>(pixel / level.width) + level.offset_y) * level.stride_y;
    const float shift_x = (static_cast<float>(pixel % level.width) + level.offset_x) * level.stride_x;
    const float* const cell = job.cells + (level.first_cell + anchor) * 4;
    Corners from{cell[0] + shift_x, cell[1] + shift_y, cell[2] + shift_x, cell[3] + shift_y};
    if (job.clip_anchors) {
      const GeometryRow& g = job.geometry[image];
      const bool canvas = job.canvas_height > 0;
      from = clip_box(from, canvas ? job.canvas_height : g.clip_height,
                      canvas ? job.canvas_width : g.clip_width);
    }
    // 16-byte aligned: a multiple of 4 floats.
    const float4 d = *reinterpret_cast<const float4*>(
        level.deltas + (static_cast<std::int64_t>(image) * level.rows + at) * 4);
    *out = job.decode(from, in_xywh(d, job.yx_first));
    return !has_nan(*out);
  }
};

template <bool kSoft>
__global__ void __launch_bounds__(kSoft ? kSoftThreads : kGreedyThreads, 1)
    finish(const __grid_constant__ Job job) {
  __shared__ int histogram[kDigits];
  const int image = static_cast<int>(blockIdx.x);
  const GeometryRow g = job.geometry[image];
  const float wanted_iou = job.parameters->nms_iou;
  const int wanted = job.last_stage ? job.parameters->max_detections : -1;
  const GreedyRules rules{.iou = job.last_stage && !isnan(wanted_iou) ? wanted_iou : job.iou,
                          .threshold = job.score_threshold(),
                          .decay = job.decay,
                          .most = wanted == -1 ? job.max_detections : min(max(wanted, 0), job.max_detections),
                          .max_per_group = job.max_per_class,
                          .one_group = job.agnostic || job.classes == 1,
                          .clip = job.clip,
                          .height = g.clip_height,
                          .width = g.clip_width};
  const GreedyMemory memory = memory_of(job, image);
  const Source source{job, image};
  Greedy<Source, kSoft> greedy(source, rules, memory, job.agnostic ? 1 : static_cast<int>(job.classes),
                               histogram);
  if (const int gathered = job.gathered[image]; gathered <= kListed) {
    const float least = job.floors[image];
    const bool all = !(least > rules.threshold);
    greedy.start(gathered, all ? 0 : Rank{bits_of_score(least)} << 32);
  }
  const int found = greedy.run();
  const int before = rows_before(job.published, image, found);
  for (int i = static_cast<int>(threadIdx.x); i < found; i += static_cast<int>(blockDim.x)) {
    const Rank rank = memory.found_ranks[i];
    job.boxes[before + i] = {static_cast<float>(image), memory.found[i]};
    job.scores[before + i] = score_of(rank);
    job.out_classes[before + i] = source.classification(rank);
    job.out_rows[before + i] = source.row(rank);
  }
  if (threadIdx.x == 0 && blockIdx.x == gridDim.x - 1) {
    job.counts.set(before + found);
  }
}

class DetectAnchorsStep final : public CudaStep {
 public:
  explicit DetectAnchorsStep(CudaPrepare& p)
      : op_(p.op<DetectAnchors>()), images_(p.input(2 * op_.levels()).dims[0]) {
    const std::string& name = p.node().name;
    const std::size_t count = op_.levels();
    require(count <= kMostLevels, "{}: {} levels, the GPU takes up to {}", name, count, kMostLevels);
    require(op_.scores != AnchorScores::kSoftmaxSkipFirst || op_.classes == 1,
            "{}: the GPU takes softmax scores of one class, not of {}", name, op_.classes);
    require(op_.soft_sigma == 0 || op_.best_class_only,
            "{}: the GPU decays the scores of each anchor's best class only", name);
    require(op_.max_per_class > 0 || op_.clip != KeptClip::kDropEmpty,
            "{}: the GPU needs max_per_class where empty boxes are dropped", name);
    cells_ =
        p.shared(name + ".cells", [&] { return DeviceBuffer::holding(std::as_bytes(std::span(op_.cells))); });
    place_levels(p);
    const std::int64_t groups = op_.agnostic ? 1 : op_.classes;
    sizes_ = {.items = op_.soft_sigma > 0 ? std::max<std::int64_t>(rows_, kHeld) : kHeld,
              .kept = op_.clip == KeptClip::kDropEmpty ? groups * op_.max_per_class + op_.max_detections
                                                       : op_.max_detections,
              .groups = groups,
              .detections = op_.max_detections};
    image_bytes_ = static_cast<std::int64_t>(greedy_bytes(sizes_));
    p.request_scratch(static_cast<std::size_t>(images_ * (image_bytes_ + 3 * std::int64_t{sizeof(int)})));
  }

  void launch(CudaRun& run) override {
    if (images_ == 0) {  // a batch of none
      for (std::size_t i = 0; i < 4; ++i)
        if (run.out(i).rows)
          cuda_check(cudaMemsetAsync(run.out(i).rows, 0, sizeof(int), run.stream()), "detect_anchors");
      return;
    }
    const Job job = job_of(run);
    const auto images = static_cast<unsigned>(images_);
    sample<<<images, kSampleThreads, 0, run.stream()>>>(job);
    if (chunks_ > 0) gather<<<dim3(chunks_, images), kGatherThreads, 0, run.stream()>>>(job);
    if (op_.soft_sigma > 0)
      finish<true><<<images, kSoftThreads, 0, run.stream()>>>(job);
    else
      finish<false><<<images, kGreedyThreads, 0, run.stream()>>>(job);
    cuda_check_launch("detect_anchors");
  }

  std::string detail() const override { return "own"; }

 private:
  void place_levels(CudaPrepare& p) {
    std::int64_t logits = 0;
    for (std::size_t l = 0; l < op_.levels(); ++l)
      logits += element_count(p.input(2 * l).dims) / std::max<std::int64_t>(images_, 1);
    // So many blocks that they fill the device a few times, unless that leaves them next to nothing to do.
    // Whole pairs, for softmax.
    const std::int64_t all = logits * std::max<std::int64_t>(images_, 1);
    const std::int64_t chunk = std::max(kLeastChunk, all / (p.device().multiprocessors * 8) / 1024 * 1024);
    for (std::size_t l = 0; l < op_.levels(); ++l) {
      const Shape& dims = p.input(2 * l).dims;
      const std::int64_t count = dims[1] * dims[2] * dims[3], rows = count / op_.columns();
      require(count <= std::numeric_limits<int>::max() &&
                  rows_ + rows <= std::numeric_limits<std::uint32_t>::max() / op_.classes,
              "{}: {} scores on a level are more than the GPU takes", p.node().name, count);
      levels_[l] = {.count = static_cast<unsigned>(count),
                    .rows = static_cast<unsigned>(rows),
                    .first_row = static_cast<unsigned>(rows_),
                    .width = static_cast<unsigned>(dims[3]),
                    .anchors = static_cast<unsigned>(op_.anchors_of(l)),
                    .first_cell = static_cast<unsigned>(op_.first_cell(l)),
                    .stride_y = op_.of_level(op_.strides, l, 0),
                    .stride_x = op_.of_level(op_.strides, l, 1),
                    .offset_y = op_.of_level(op_.offsets, l, 0),
                    .offset_x = op_.of_level(op_.offsets, l, 1),
                    .first_chunk = chunks_,
                    .chunk = static_cast<unsigned>(chunk)};
      chunks_ += static_cast<unsigned>((count + chunk - 1) / chunk);
      rows_ += rows;
    }
    sample_step_ = static_cast<unsigned>(std::max<std::int64_t>(logits / kSampled, 1));
  }

  Job job_of(CudaRun& run) const {
    std::byte* const end = run.scratch() + images_ * image_bytes_;
    Job job{.level_count = static_cast<int>(op_.levels()),
            .rows = static_cast<unsigned>(rows_),
            .classes = static_cast<unsigned>(op_.classes),
            .columns = static_cast<unsigned>(op_.columns()),
            .first_column = static_cast<unsigned>(op_.first_column()),
            .sample_step = sample_step_,
            .is_softmax = op_.scores == AnchorScores::kSoftmaxSkipFirst,
            .best_class_only = op_.best_class_only && op_.classes > 1,
            .agnostic = op_.agnostic,
            .clip_anchors = op_.clip_anchors,
            .last_stage = op_.stage == 2,
            .threshold = op_.threshold,
            .iou = op_.iou,
            .decay = op_.soft_sigma > 0 ? -0.5f / op_.soft_sigma : 0,
            .max_per_class = op_.max_per_class,
            .max_detections = op_.max_detections,
            .clip = op_.clip,
            .canvas_height = static_cast<float>(op_.canvas_height),
            .canvas_width = static_cast<float>(op_.canvas_width),
            .yx_first = op_.delta_order == DeltaOrder::kYxhw,
            .decode = BoxDecoder(op_.weights, op_.max_log_scale),
            .cells = cells_->as<float>(),
            .geometry = run.in(2 * op_.levels()).as<GeometryRow>(),
            .parameters = run.parameters(),
            .sizes = sizes_,
            .image_bytes = image_bytes_,
            .memory = run.scratch(),
            .floors = reinterpret_cast<float*>(end),
            .gathered = reinterpret_cast<int*>(end) + images_,
            .published = reinterpret_cast<int*>(end) + 2 * images_,
            .boxes = run.out(0).as<RoiRow>(),
            .scores = run.out(1).as<float>(),
            .out_classes = run.out(2).as<int>(),
            .out_rows = run.out(3).as<int>(),
            .counts = RowCounts(run, 4)};
    for (std::size_t l = 0; l < op_.levels(); ++l) {
      job.levels[l] = levels_[l];
      job.levels[l].scores = run.in(2 * l).as<float>();
      job.levels[l].deltas = run.in(2 * l + 1).as<float>();
    }
    return job;
  }

  DetectAnchors op_;
  std::int64_t images_, rows_ = 0, image_bytes_ = 0;
  std::shared_ptr<const DeviceBuffer> cells_;
  Level levels_[kMostLevels] = {};
  unsigned chunks_ = 0, sample_step_ = 1;
  GreedySizes sizes_{};
};

}  // namespace

CudaKernel detect_anchors_cuda() {
  return {.op = &kOpInfo<DetectAnchors>,
          .dtypes = {DType::kF32},
          .prepare = [](CudaPrepare& p) -> std::unique_ptr<CudaStep> {
            return std::make_unique<DetectAnchorsStep>(p);
          },
          .selects_rows = true};
}

}  // namespace osprey
