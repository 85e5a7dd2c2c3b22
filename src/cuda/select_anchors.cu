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
// Score maps are channels last, so that an element's place in memory is its place among equal scores. Of
// scores that are there in part (cuda/score_flags.h) the flags are read instead.
#include <limits>

#include "cuda/block.cuh"
#include "cuda/boxes.cuh"
#include "cuda/numbers.cuh"
#include "cuda/score_scan.cuh"
#include "cuda/select_anchors.h"
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
  const std::uint32_t* flags;  // null: all scores are there
  unsigned count;              // scores of an image
  unsigned searched;           // what is read: those, or the flags' words
  int width, channels;
  float stride;
  int first_chunk;  // of all chunks of an image
  unsigned chunk;   // of what is read
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

// The scores of a level and image.
struct Scores {
  const float* scores;
  const std::uint32_t* flags;
  unsigned channels;

  __device__ Scores(const Level& level, int image)
      : scores(level.scores + static_cast<std::int64_t>(image) * level.count),
        flags(level.flags ? level.flags + static_cast<std::int64_t>(image) * level.searched : nullptr),
        channels(static_cast<unsigned>(level.channels)) {}
  // f(raw, index) for those of a part of what is read that are at least `floor`.
  template <class F>
  __device__ void each(unsigned begin, unsigned end, float floor, F&& f) const {
    if (flags)
      each_flagged_score(scores, flags, channels, begin, end, floor, f);
    else
      each_score(scores, begin, end, floor, f);
  }
};

// A block's share of an image's scores: blockIdx.x counts the chunks of all levels, blockIdx.y the images.
struct Chunk {
  int search;
  Scores scores;
  unsigned begin, end;

  __device__ explicit Chunk(const Job& job) : Chunk(job, level_of(job)) {}
  template <class F>
  __device__ void each(float floor, F&& f) const {
    scores.each(begin, end, floor, f);
  }

 private:
  static __device__ int level_of(const Job& job) {
    int l = 0;
    while (l + 1 < job.level_count && job.levels[l + 1].first_chunk <= static_cast<int>(blockIdx.x)) ++l;
    return l;
  }
  __device__ Chunk(const Job& job, int l)
      : search(static_cast<int>(blockIdx.y) * job.level_count + l),
        scores(job.levels[l], static_cast<int>(blockIdx.y)),
        begin((blockIdx.x - static_cast<unsigned>(job.levels[l].first_chunk)) * job.levels[l].chunk),
        end(min(job.levels[l].searched, begin + job.levels[l].chunk)) {}
};

// Adds to a list whose length is counted beyond its capacity, too.
__device__ void append(Rank rank, Rank* list, int* length) {
  const int at = atomicAdd(length, 1);
  if (at < kListed) list[at] = rank;
}

// What raw scores must at least be to be looked at.
__global__ void find_least(Job job, float* least) {
  const Threshold threshold(job);
  *least = threshold.floor_of(threshold.above);
}

__global__ void __launch_bounds__(kSurveyThreads) survey(Job job) {
  __shared__ int histogram[kBins];
  const Chunk chunk(job);
  for (unsigned i = threadIdx.x; i < kBins; i += kSurveyThreads) histogram[i] = 0;
  __syncthreads();
  const Threshold threshold(job);
  Rank* listed = job.memory.listed + static_cast<std::int64_t>(chunk.search) * kListed;
  chunk.each(threshold.floor_of(threshold.above), [&](float raw, unsigned index) {
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
  chunk.each(threshold.floor_of(lowest), [&](float raw, unsigned index) {
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
      Scores(level, image).each(0, level.searched, floor, [&](float raw, unsigned index) {
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

class SelectAnchorsStep final : public AnchorSelection {
 public:
  SelectAnchorsStep(CudaPrepare& p, bool flagged)
      : op_(p.op<SelectAnchors>()),
        images_(static_cast<int>(p.input(0).dims[0])),
        multiprocessors_(p.device().multiprocessors),
        flagged_(flagged) {
    const std::size_t levels = op_.strides.size();
    require(levels <= kMostLevels, "{}: {} levels, the GPU takes up to {}", p.node().name, levels,
            kMostLevels);
    cells_ = p.shared(p.node().name + ".cells",
                      [&] { return DeviceBuffer::holding(std::as_bytes(std::span(op_.cells))); });
    for (std::size_t l = 0; l < levels; ++l) {
      const Shape& dims = p.input(2 * l).dims;
      const std::int64_t count = dims[1] * dims[2] * dims[3];
      require(count <= std::numeric_limits<int>::max(), "{}: {} scores on a level, the GPU takes up to {}",
              p.node().name, count, std::numeric_limits<int>::max());
      levels_[l] = {.count = static_cast<unsigned>(count),
                    .width = static_cast<int>(dims[3]),
                    .channels = static_cast<int>(dims[1]),
                    .stride = static_cast<float>(op_.strides[l])};
    }
    sorted_size_ = sort_size(op_.top);
    p.request_scratch(lay_out(nullptr).bytes);
  }

  std::vector<ScoreFlags> begin(CudaRun& run, bool flagged) override {
    const Scratch scratch = lay_out(run.scratch());
    // The counts lie first, side by side.
    const auto counts = static_cast<std::size_t>(searches()) * (kBins + 3) * sizeof(int);
    if (counts > 0)
      cuda_check(cudaMemsetAsync(scratch.memory.histograms, 0, counts, run.stream()), "select_anchors");
    std::vector<ScoreFlags> out(op_.strides.size());
    if (!flagged) return out;
    check(flagged_, "select_anchors: no flags were asked for");
    find_least<<<1, 1, 0, run.stream()>>>(job_of(run, scratch), scratch.least);
    cuda_check_launch("select_anchors");
    for (std::size_t l = 0; l < out.size(); ++l)
      out[l] = {reinterpret_cast<std::uint8_t*>(scratch.flags[l]), scratch.least};
    return out;
  }

  void end(CudaRun& run, bool flagged) override {
    if (searches() == 0) {  // a batch of none
      for (std::size_t i = 0; i < 3; ++i)
        if (run.out(i).rows)
          cuda_check(cudaMemsetAsync(run.out(i).rows, 0, sizeof(int), run.stream()), "select_anchors");
      return;
    }
    const Scratch scratch = lay_out(run.scratch());
    Job job = job_of(run, scratch);
    if (flagged)
      for (std::size_t l = 0; l < op_.strides.size(); ++l) job.levels[l].flags = scratch.flags[l];
    if (const int chunks = divide(job); chunks > 0) {
      const dim3 grid(static_cast<unsigned>(chunks), static_cast<unsigned>(images_));
      survey<<<grid, kSurveyThreads, 0, run.stream()>>>(job);
      gather<<<grid, kSurveyThreads, 0, run.stream()>>>(job);
    }
    const std::size_t shared = job.memory.sorted ? 0 : static_cast<std::size_t>(sorted_size_) * sizeof(Rank);
    finish<<<static_cast<unsigned>(searches()), kFinishThreads, shared, run.stream()>>>(job);
    cuda_check_launch("select_anchors");
  }

  std::string detail() const override { return "own"; }

 private:
  struct Scratch {
    Memory memory{};
    float* least = nullptr;
    std::uint32_t* flags[kMostLevels] = {};
    std::size_t bytes = 0;
  };

  int searches() const { return images_ * static_cast<int>(op_.strides.size()); }

  static unsigned words_of(const Level& level) {
    const auto channels = static_cast<unsigned>(level.channels);
    return level.count / channels * kFlagLanes * flag_words(channels);
  }

  // Divides what is read among blocks; how many an image takes.
  int divide(Job& job) const {
    std::int64_t all = 0;
    for (Level& level : std::span(job.levels).first(op_.strides.size())) {
      level.searched = level.flags ? words_of(level) : level.count;
      all += level.searched;
    }
    // So many blocks that they fill the device a few times, unless that leaves them next to nothing to do.
    const std::int64_t chunk = std::max(kLeastChunk, images_ * all / (multiprocessors_ * 8) / 1024 * 1024);
    std::int64_t chunks = 0;
    for (Level& level : std::span(job.levels).first(op_.strides.size())) {
      level.first_chunk = static_cast<int>(chunks);
      level.chunk = static_cast<unsigned>(chunk);
      chunks += (level.searched + chunk - 1) / chunk;
    }
    return static_cast<int>(chunks);
  }

  Scratch lay_out(std::byte* base) const {
    Scratch out;
    const auto take = [&]<class T>(T*& at, std::size_t count) {
      out.bytes = (out.bytes + alignof(T) - 1) / alignof(T) * alignof(T);
      at = reinterpret_cast<T*>(base + out.bytes);
      out.bytes += count * sizeof(T);
    };
    const auto searches = static_cast<std::size_t>(this->searches());
    Memory& m = out.memory;
    take(m.histograms, searches * kBins);
    take(m.surveyed, searches);
    take(m.gathered, searches);
    take(m.published, searches);
    take(m.listed, searches * kListed);
    if (sorted_size_ > kSortedInShared) take(m.sorted, searches * static_cast<std::size_t>(sorted_size_));
    take(m.selected, searches * static_cast<std::size_t>(op_.top));
    if (!flagged_) return out;
    take(out.least, 1);
    for (std::size_t l = 0; l < op_.strides.size(); ++l)
      take(out.flags[l], static_cast<std::size_t>(images_) * words_of(levels_[l]));
    return out;
  }

  Job job_of(CudaRun& run, const Scratch& scratch) const {
    const std::size_t levels = op_.strides.size();
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
            .memory = scratch.memory,
            .boxes = run.out(0).as<RoiRow>(),
            .scores = run.out(1).as<float>(),
            .groups = run.out(2).as<int>(),
            .rows = RowCounts(run, 3)};
    for (std::size_t l = 0; l < levels; ++l) {
      job.levels[l] = levels_[l];
      job.levels[l].scores = run.in(2 * l).as<float>();
      job.levels[l].deltas = run.in(2 * l + 1).as<float>();
    }
    return job;
  }

  SelectAnchors op_;
  int images_, multiprocessors_;
  bool flagged_;  // whether scores may be
  std::shared_ptr<const DeviceBuffer> cells_;
  Level levels_[kMostLevels] = {};  // but for what depends on how they are read
  int sorted_size_ = 0;
};

}  // namespace

std::unique_ptr<AnchorSelection> anchor_selection(CudaPrepare& prepare) {
  return std::make_unique<SelectAnchorsStep>(prepare, true);
}

CudaKernel select_anchors_cuda() {
  return {.op = &kOpInfo<SelectAnchors>,
          .dtypes = {DType::kF32},
          .prepare = [](CudaPrepare& p) -> std::unique_ptr<CudaStep> {
            return std::make_unique<SelectAnchorsStep>(p, false);
          },
          .selects_rows = true};
}

}  // namespace osprey
