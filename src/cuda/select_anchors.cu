// Three launches for all levels and images:
//   survey   many blocks read the scores once. They count the candidates of each level by the leading bits of
//            their scores, and, where a threshold leaves few, list them.
//   gather   where there was no threshold, or it left too many, many blocks read the scores again and list
//   those
//            at or above the leading bits that the last of the best has.
//   finish   one block a level and image finds the best among the listed exactly, sorts, decodes and writes
//   them.
// Scores that pile up on few values can overflow a list; finish then reads the scores themselves, slowly but
// exactly.
//
// Score maps are channels last, so that an element's place in memory is its place among equal scores.
#include <limits>

#include "cuda/block.cuh"
#include "cuda/boxes.cuh"
#include "cuda/numbers.cuh"
#include "cuda/score_scan.cuh"
#include "ops/select_anchors.h"

namespace osprey {
namespace {

using namespace cuda;

constexpr int kMostLevels = 8;
constexpr int kSurveyThreads = 256, kFinishThreads = 1024;
constexpr int kLeadingBits = 12, kBins = 1 << kLeadingBits;
constexpr int kListed = 32768;              // ranks listed of a level and image, at most
constexpr int kSortedInShared = 4096;       // ranks; more are sorted in global memory
constexpr std::int64_t kLeastChunk = 4096;  // scores a block reads

struct Level {
  const float *scores, *deltas;
  unsigned count;  // scores of an image
  int width, channels;
  float stride;
  int first_chunk;  // of all chunks of an image
  unsigned chunk;   // scores
};

// What finish() found, before it is known where it goes.
struct Selected {
  RoiRow roi;
  float score;
  int group;
};

// What lives from one launch to the next, of each image and level ("search").
struct Memory {
  int* histograms;     // [searches, kBins]
  int* surveyed;       // [searches]: candidates there are, when survey() lists them
  int* gathered;       // [searches]: candidates that gather() found
  int* published;      // [searches] (rows_before)
  Rank* listed;        // [searches, kListed]
  Rank* sorted;        // [searches, sorted_size]; null where shared memory does
  Selected* selected;  // [searches, top]
};

struct Job {
  Level levels[kMostLevels];
  int level_count;
  int anchors, classes, top, sorted_size, stage;
  bool is_sigmoid, has_threshold, clip, drop_empty, by_class, lists_at_once, inclusive;
  float threshold, offset, min_size;
  BoxDecoder decode;
  const float* cells;
  const GeometryRow* geometry;
  const CudaParameters* parameters;
  Memory memory;
  RoiRow* boxes;
  float* scores;
  int* groups;
  RowCounts rows;
};

// What a score must be.
struct Threshold {
  bool is_sigmoid;
  float above;

  __device__ explicit Threshold(const Job& job) : is_sigmoid(job.is_sigmoid), above(-INFINITY) {
    if (job.has_threshold) above = job.threshold;
    const float first = job.parameters->first_score_threshold, last = job.parameters->score_threshold;
    if (job.stage == 2 && !isnan(last)) above = last;
    if (job.stage == 1 && !isnan(first)) above = is_sigmoid ? first : log_rounded(first / (1 - first));
  }
  __device__ float activated(float raw) const { return is_sigmoid ? sigmoid_rounded(raw) : raw; }
  __device__ bool passes(float score) const { return score > above && isfinite(score); }
  // A raw value that is not above that of any candidate whose score is at least `score`.
  __device__ float floor_of(float score) const {
    constexpr float kLowest = -std::numeric_limits<float>::max();
    if (!is_sigmoid) return fmaxf(score, kLowest);
    if (!(score > 0)) return kLowest;
    const float p = fminf(score, 0.999f);  // beyond it rounding makes the inverse too coarse
    return logf(p / (1 - p)) - 0.01f;
  }
};

// A block's share of an image's scores: blockIdx.x counts the chunks of all levels, blockIdx.y the images.
struct Chunk {
  int search;
  const float* scores;
  unsigned begin, end;

  __device__ explicit Chunk(const Job& job) {
    const int block = static_cast<int>(blockIdx.x), image = static_cast<int>(blockIdx.y);
    int l = 0;
    while (l + 1 < job.level_count && job.levels[l + 1].first_chunk <= block) ++l;
    const Level& level = job.levels[l];
    search = image * job.level_count + l;
    scores = level.scores + static_cast<std::int64_t>(image) * level.count;
    begin = static_cast<unsigned>(block - level.first_chunk) * level.chunk;
    end = min(level.count, begin + level.chunk);
  }
};

// Adds to a list whose length is counted beyond its capacity, too.
__device__ void append(Rank rank, Rank* list, int* length) {
  const int at = atomicAdd(length, 1);
  if (at < kListed) list[at] = rank;
}

__global__ void __launch_bounds__(kSurveyThreads) survey(Job job) {
  __shared__ int histogram[kBins];
  const Chunk chunk(job);
  for (unsigned i = threadIdx.x; i < kBins; i += kSurveyThreads) histogram[i] = 0;
  __syncthreads();
  const Threshold threshold(job);
  Rank* listed = job.memory.listed + static_cast<std::int64_t>(chunk.search) * kListed;
  each_score(chunk.scores, chunk.begin, chunk.end, threshold.floor_of(threshold.above),
             [&](float raw, unsigned index) {
               const float score = threshold.activated(raw);
               if (!threshold.passes(score)) return;
               const Rank rank = rank_of(score, index);
               atomicAdd(histogram + (rank >> (64 - kLeadingBits)), 1);
               if (job.lists_at_once) append(rank, listed, job.memory.surveyed + chunk.search);
             });
  __syncthreads();
  int* total = job.memory.histograms + static_cast<std::int64_t>(chunk.search) * kBins;
  for (unsigned i = threadIdx.x; i < kBins; i += kSurveyThreads)
    if (histogram[i] > 0) atomicAdd(total + i, histogram[i]);
}

__global__ void __launch_bounds__(kSurveyThreads) gather(Job job) {
  const Chunk chunk(job);
  if (job.lists_at_once && job.memory.surveyed[chunk.search] <= kListed) return;
  const int* histogram = job.memory.histograms + static_cast<std::int64_t>(chunk.search) * kBins;
  const auto leading = static_cast<unsigned>(find_digit<kBins>(histogram, job.top).digit);
  const std::uint32_t least = leading << (32 - kLeadingBits);
  const Threshold threshold(job);
  const float lowest = leading == 0 ? threshold.above : fmaxf(threshold.above, score_of_bits(least));
  Rank* listed = job.memory.listed + static_cast<std::int64_t>(chunk.search) * kListed;
  each_score(chunk.scores, chunk.begin, chunk.end, threshold.floor_of(lowest),
             [&](float raw, unsigned index) {
               const float score = threshold.activated(raw);
               if (threshold.passes(score) && bits_of_score(score) >= least)
                 append(rank_of(score, index), listed, job.memory.gathered + chunk.search);
             });
}

__device__ bool too_small(const Job& job, const Corners& b) {
  if (!job.inclusive) return !has_extent(b, job.min_size);
  return !(b.width() + 1 >= job.min_size && b.height() + 1 >= job.min_size);
}

// A candidate as an anchor of a level.
__device__ bool decoded(const Job& job, int l, int image, Rank rank, Selected* out) {
  const Level& level = job.levels[l];
  const unsigned index = index_of(rank), channels = static_cast<unsigned>(level.channels);
  const unsigned pixel = index / channels, channel = index % channels;
  const unsigned anchor = channel / static_cast<unsigned>(job.classes);
  const unsigned y = pixel / static_cast<unsigned>(level.width),
                 x = pixel % static_cast<unsigned>(level.width);
  const std::int64_t pixels = level.count / channels;
  const float* delta = level.deltas + ((image * pixels + pixel) * job.anchors + anchor) * 4;
  const float* cell = job.cells + (static_cast<unsigned>(l * job.anchors) + anchor) * 4;
  const float shift_x = (static_cast<float>(x) + job.offset) * level.stride,
              shift_y = (static_cast<float>(y) + job.offset) * level.stride;
  const float4 moved = *reinterpret_cast<const float4*>(delta);  // 16-byte aligned: a multiple of 4 floats
  Corners box =
      job.decode({cell[0] + shift_x, cell[1] + shift_y, cell[2] + shift_x, cell[3] + shift_y}, moved);
  if (!is_finite(box)) return false;
  if (job.clip) {
    const GeometryRow& g = job.geometry[image];
    const float edge = inclusive_pixel(job.inclusive);
    box = clip_box(box, g.clip_height - edge, g.clip_width - edge);
  }
  if (job.drop_empty && too_small(job, box)) return false;
  *out = {{static_cast<float>(image), box},
          score_of(rank),
          job.by_class ? static_cast<int>(channel % static_cast<unsigned>(job.classes)) : l};
  return true;
}

__global__ void __launch_bounds__(kFinishThreads) finish(Job job) {
  extern __shared__ Rank shared_ranks[];
  __shared__ int histogram[kDigits];
  const int search = static_cast<int>(blockIdx.x), image = search / job.level_count,
            l = search % job.level_count;
  const Level& level = job.levels[l];
  Rank* sorted = job.memory.sorted ? job.memory.sorted + static_cast<std::int64_t>(search) * job.sorted_size
                                   : shared_ranks;
  const Rank* listed = job.memory.listed + static_cast<std::int64_t>(search) * kListed;
  const bool at_once = job.lists_at_once && job.memory.surveyed[search] <= kListed;
  const int length = at_once ? job.memory.surveyed[search] : job.memory.gathered[search];

  int count;
  if (length <= kListed) {
    const auto candidates = [&](auto&& f) {
      for (int i = static_cast<int>(threadIdx.x); i < length; i += kFinishThreads) f(listed[i]);
    };
    count = best_of(candidates, job.top, sorted, job.sorted_size, histogram);
  } else {
    const Threshold threshold(job);
    const float floor = threshold.floor_of(threshold.above);
    const auto candidates = [&](auto&& f) {
      each_score(level.scores + static_cast<std::int64_t>(image) * level.count, 0, level.count, floor,
                 [&](float raw, unsigned index) {
                   const float score = threshold.activated(raw);
                   if (threshold.passes(score)) f(rank_of(score, index));
                 });
    };
    count = best_of(candidates, job.top, sorted, job.sorted_size, histogram);
  }

  Selected* selected = job.memory.selected + static_cast<std::int64_t>(search) * job.top;
  int kept = 0;
  for (int first = 0; first < count; first += kFinishThreads) {
    const int i = first + static_cast<int>(threadIdx.x);
    Selected mine;
    const bool keeps = i < count && decoded(job, l, image, sorted[i], &mine);
    int total;
    const int at = kept + block_exclusive_sum(keeps, &total);
    if (keeps) selected[at] = mine;
    kept += total;
  }
  const int before = rows_before(job.memory.published, search, kept);
  for (int i = static_cast<int>(threadIdx.x); i < kept; i += kFinishThreads) {
    const Selected s = selected[i];
    job.boxes[before + i] = s.roi, job.scores[before + i] = s.score, job.groups[before + i] = s.group;
  }
  if (threadIdx.x == 0 && blockIdx.x == gridDim.x - 1) job.rows.set(before + kept);
}

class SelectAnchorsStep final : public CudaStep {
 public:
  explicit SelectAnchorsStep(CudaPrepare& p)
      : op_(p.op<SelectAnchors>()), images_(static_cast<int>(p.input(0).dims[0])) {
    const std::size_t levels = op_.strides.size();
    require(levels <= kMostLevels, "{}: {} levels, the GPU takes up to {}", p.node().name, levels,
            kMostLevels);
    cells_ = p.shared(p.node().name + ".cells",
                      [&] { return DeviceBuffer::holding(std::as_bytes(std::span(op_.cells))); });
    std::int64_t scores = 0;
    for (std::size_t l = 0; l < levels; ++l) scores += element_count(p.input(2 * l).dims);
    // So many blocks that they fill the device a few times, unless that leaves them next to nothing to do.
    const std::int64_t chunk = std::max(kLeastChunk, scores / (p.device().multiprocessors * 8) / 1024 * 1024);
    for (std::size_t l = 0; l < levels; ++l) {
      const Shape& dims = p.input(2 * l).dims;
      const std::int64_t count = dims[1] * dims[2] * dims[3];
      require(count <= std::numeric_limits<int>::max(), "{}: {} scores on a level, the GPU takes up to {}",
              p.node().name, count, std::numeric_limits<int>::max());
      levels_[l] = {.count = static_cast<unsigned>(count),
                    .width = static_cast<int>(dims[3]),
                    .channels = static_cast<int>(dims[1]),
                    .stride = static_cast<float>(op_.strides[l]),
                    .first_chunk = chunks_,
                    .chunk = static_cast<unsigned>(chunk)};
      chunks_ += static_cast<int>((count + chunk - 1) / chunk);
    }
    sorted_size_ = sort_size(op_.top);
    p.request_scratch(lay_out(nullptr).second);
  }

  void launch(CudaRun& run) override {
    const std::size_t levels = op_.strides.size();
    const int searches = images_ * static_cast<int>(levels);
    if (searches == 0) {  // a batch of none
      for (std::size_t i = 0; i < 3; ++i)
        if (run.out(i).rows)
          cuda_check(cudaMemsetAsync(run.out(i).rows, 0, sizeof(int), run.stream()), "select_anchors");
      return;
    }
    const auto [memory, bytes] = lay_out(run.scratch());
    Job job{.level_count = static_cast<int>(levels),
            .anchors = op_.anchors,
            .classes = op_.classes,
            .top = op_.top,
            .sorted_size = sorted_size_,
            .stage = op_.stage,
            .is_sigmoid = op_.activation == Activation::kSigmoid,
            .has_threshold = op_.has_threshold,
            .clip = op_.clip,
            .drop_empty = op_.drop_empty,
            .by_class = op_.group == AnchorGroup::kClass,
            .lists_at_once = op_.has_threshold,
            .inclusive = op_.inclusive,
            .threshold = op_.threshold,
            .offset = op_.offset,
            .min_size = op_.min_size,
            .decode = BoxDecoder(op_.weights, op_.max_log_scale, op_.inclusive),
            .cells = cells_->as<float>(),
            .geometry = run.in(2 * levels).as<GeometryRow>(),
            .parameters = run.parameters(),
            .memory = memory,
            .boxes = run.out(0).as<RoiRow>(),
            .scores = run.out(1).as<float>(),
            .groups = run.out(2).as<int>(),
            .rows = RowCounts(run, 3)};
    for (std::size_t l = 0; l < levels; ++l) {
      job.levels[l] = levels_[l];
      job.levels[l].scores = run.in(2 * l).as<float>();
      job.levels[l].deltas = run.in(2 * l + 1).as<float>();
    }
    // The counts lie first in the scratch, side by side.
    const auto counts = static_cast<std::size_t>(searches) * (kBins + 3) * sizeof(int);
    cuda_check(cudaMemsetAsync(memory.histograms, 0, counts, run.stream()), "select_anchors");
    if (chunks_ > 0) {
      const dim3 grid(static_cast<unsigned>(chunks_), static_cast<unsigned>(images_));
      survey<<<grid, kSurveyThreads, 0, run.stream()>>>(job);
      gather<<<grid, kSurveyThreads, 0, run.stream()>>>(job);
    }
    const std::size_t shared = memory.sorted ? 0 : static_cast<std::size_t>(sorted_size_) * sizeof(Rank);
    finish<<<static_cast<unsigned>(searches), kFinishThreads, shared, run.stream()>>>(job);
    cuda_check_launch("select_anchors");
  }

  std::string detail() const override { return "own"; }

 private:
  // The parts of the scratch, and its size.
  std::pair<Memory, std::size_t> lay_out(std::byte* base) const {
    std::size_t end = 0;
    const auto searches = static_cast<std::size_t>(images_) * op_.strides.size();
    const auto take = [&]<class T>(T*, std::size_t each) {
      end = (end + alignof(T) - 1) / alignof(T) * alignof(T);
      auto* const at = reinterpret_cast<T*>(base + end);
      end += searches * each * sizeof(T);
      return at;
    };
    Memory m{};
    m.histograms = take(m.histograms, kBins);
    m.surveyed = take(m.surveyed, 1);
    m.gathered = take(m.gathered, 1);
    m.published = take(m.published, 1);
    m.listed = take(m.listed, kListed);
    if (sorted_size_ > kSortedInShared) m.sorted = take(m.sorted, static_cast<std::size_t>(sorted_size_));
    m.selected = take(m.selected, static_cast<std::size_t>(op_.top));
    return {m, end};
  }

  SelectAnchors op_;
  int images_;
  std::shared_ptr<const DeviceBuffer> cells_;
  Level levels_[kMostLevels] = {};
  int chunks_ = 0, sorted_size_ = 0;
};

}  // namespace

CudaKernel select_anchors_cuda() {
  return {.op = &kOpInfo<SelectAnchors>,
          .dtypes = {DType::kF32},
          .prepare = [](CudaPrepare& p) -> std::unique_ptr<CudaStep> {
            return std::make_unique<SelectAnchorsStep>(p);
          },
          .selects_rows = true};
}

}  // namespace osprey
