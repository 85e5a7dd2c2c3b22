// Two launches, with no sorting of the candidates before they are compared:
//   compare  many blocks find for each candidate the better ones of its group that overlap it too much: a bit
//            each, 32 candidates by 32 at a time; squares of other groups or of worse candidates are skipped.
//   finish   one block an image settles what is kept. A candidate whose suppressors are all suppressed is
//            kept, one with a kept suppressor is not; rounds go on until all are settled, as many as the
//            longest chain of suppressors asks for, which are few. The best of the kept are then found and
//            sorted.
// The outcome is that of the greedy pass by descending score (cpu/nms.cpp). An image with more candidates
// than there are bits for is handled by finish() alone, by descending score, a thousand candidates at a time,
// until there are enough detections.
//
// Rows come in the order of their images, as all ops that select rows write them.
#include "cuda/block.cuh"
#include "cuda/boxes.cuh"
#include "cuda/greedy.cuh"
#include "cuda/numbers.cuh"
#include "ops/nms.h"

namespace osprey {
namespace {

using namespace cuda;

constexpr int kCompareThreads = 1024, kFinishThreads = 1024, kWarps = kCompareThreads / 32;
constexpr int kMostCompared = 8192;  // candidates of an image
constexpr int kMostTiles = kMostCompared / 32, kTileWords = kMostTiles / 32;
constexpr int kTilesAWarp = kMostTiles / (kFinishThreads / 32);
constexpr int kSortedInShared = 2048;
constexpr int kBatch = 1024;  // candidates handled together of an image with too many
static_assert(kBatch == kFinishThreads && kBatch <= kSortedInShared);

struct Job {
  const RoiRow* boxes;
  const float* scores;
  const int* groups;
  const int* rows;
  int bound, images;
  float iou;
  int max_detections, offset_limit, max_per_group;
  bool last_stage, inclusive;
  const CudaParameters* parameters;
  int tiles;  // of 32 candidates, an image
  // [images, tiles, tiles * 32]: bit j of word (t, i): candidate 32 t + j suppresses candidate i
  unsigned* suppressors;
  unsigned* filled;  // [images, tiles, kTileWords]: which words of the tile's candidates are not all zero
  unsigned* free;    // [images, tiles]: candidates without a suppressor
  int* published;    // [images] (rows_before)
  Rank* sorted;      // [images, sorted_size]; null where shared memory does
  int* kept;         // [images, max_detections], for images with too many candidates
  int sorted_size;
  RoiRow* out_boxes;
  float* out_scores;
  int* out_groups;
  RowCounts out_rows;

  // NaN, which no overlap reaches: nothing is suppressed (an iou of 0 between inclusive boxes).
  __device__ float threshold() const {
    const float asked = parameters->nms_iou;
    const float wanted = last_stage && !isnan(asked) ? asked : iou;
    return inclusive && !(wanted > 0) ? NAN : wanted;
  }
  __device__ int most() const {
    const int wanted = last_stage ? parameters->max_detections : -1;
    return wanted == -1 ? max_detections : min(max(wanted, 0), max_detections);
  }
};

// Rows [begin, end) of one image.
struct Rows {
  int begin, end;
  __device__ int size() const { return end - begin; }
};

// The first of the rows whose image is not below `image`. By one warp.
__device__ int first_row_of(const RoiRow* boxes, int count, int image) {
  int low = 0, high = count;
  while (low < high) {
    const int step = (high - low) / 32 + 1, probe = low + lane_of_thread() * step;
    const bool before = probe < high && boxes[probe].image < static_cast<float>(image);
    const int passed = __popc(__ballot_sync(kAll, before));
    high = min(high, low + passed * step);
    if (passed > 0) low += (passed - 1) * step + 1;
  }
  return low;
}

__device__ Rows rows_of_image(const Job& job, int image) {
  const int live = live_rows(job.rows, job.bound);
  if (job.images == 1) return {0, live};
  __shared__ Rows rows;
  if (warp_of_thread() == 0) {
    const int row = first_row_of(job.boxes, live, image);
    if (lane_of_thread() == 0) rows.begin = row;
  } else if (warp_of_thread() == 1) {
    const int row = first_row_of(job.boxes, live, image + 1);
    if (lane_of_thread() == 0) rows.end = row;
  }
  __syncthreads();
  return rows;
}

// std::max, of which NaN as the second argument is passed over.
__device__ float larger(float a, float b) { return a < b ? b : a; }

__device__ float largest_coordinate(const Corners& b) {
  return larger(larger(b.x0, b.x1), larger(b.y0, b.y1));
}

// What boxes are moved by for each group where one pass over all groups does (offset_limit).
__device__ float group_spread(const Job& job, Rows rows) {
  __shared__ float warps[32];
  float most = -INFINITY;
  for (int r = rows.begin + static_cast<int>(threadIdx.x); r < rows.end; r += static_cast<int>(blockDim.x))
    most = larger(most, largest_coordinate(job.boxes[r].box));
  for (int step = 16; step > 0; step /= 2) most = larger(most, __shfl_xor_sync(kAll, most, step));
  if (lane_of_thread() == 0) warps[warp_of_thread()] = most;
  __syncthreads();
  const int count = static_cast<int>(blockDim.x / 32);
  most = lane_of_thread() < count ? warps[lane_of_thread()] : -INFINITY;
  for (int step = 16; step > 0; step /= 2) most = larger(most, __shfl_xor_sync(kAll, most, step));
  const float first = largest_coordinate(job.boxes[rows.begin].box);
  return (isnan(first) ? first : most) + 1;
}

// A candidate as it is compared.
struct Candidate {
  Corners box;
  float area;
  int group;
};

// How an image's candidates become comparable.
struct Grouping {
  bool together;
  float spread;

  __device__ Grouping(const Job& job, Rows rows)
      : together(rows.size() <= job.offset_limit), spread(together ? group_spread(job, rows) : 0) {}

  __device__ int group(const Job& job, int row) const { return together ? 0 : job.groups[row]; }
  __device__ Candidate candidate(const Job& job, int row) const {
    Corners b = job.boxes[row].box;
    const float offset = together ? static_cast<float>(job.groups[row]) * spread : 0;
    b = {b.x0 + offset, b.y0 + offset, b.x1 + offset, b.y1 + offset};
    return {b, area_of(b, inclusive_pixel(job.inclusive)), group(job, row)};
  }
};

// NaN is passed over as std::max and std::min do.
template <bool kInclusive>
__device__ float common_area(const Corners& kept, const Corners& b) {
  const float left = kept.x0 < b.x0 ? b.x0 : kept.x0, top = kept.y0 < b.y0 ? b.y0 : kept.y0;
  const float right = b.x1 < kept.x1 ? b.x1 : kept.x1, bottom = b.y1 < kept.y1 ? b.y1 : kept.y1;
  constexpr float kPixel = inclusive_pixel(kInclusive);
  const float wide = right - left + kPixel, high = bottom - top + kPixel;
  const float w = wide > 0 ? wide : 0, h = high > 0 ? high : 0;
  return w * h;
}

// Whether `kept` and `b` overlap by more than `iou`, inclusive boxes by as much or more. NaN compares false
// all through.
template <bool kInclusive>
__device__ bool overlap(const Corners& kept, float kept_area, const Corners& b, float area, float iou) {
  const float common = common_area<kInclusive>(kept, b);
  if (common == 0 && iou >= 0) return false;  // saves the division; an inclusive iou is above 0
  const float quotient = common / (kept_area + area - common);
  return kInclusive ? quotient >= iou : quotient > iou;
}

// What overlap() says, where that is known without a division and its rounding.
struct Expected {
  bool yes, no;
};
template <bool kInclusive>
__device__ Expected expected_overlap(const Corners& kept, float kept_area, const Corners& b, float area,
                                     float iou) {
  constexpr float kLeast = 1e-30f, kMargin = 1e-6f;  // far above denormal numbers; several roundings
  const float common = common_area<kInclusive>(kept, b), bound = iou * (kept_area + area - common);
  const bool normal = bound > kLeast;
  return {bool(normal & (common > bound * (1 + kMargin))), bool(normal & (common < bound * (1 - kMargin)))};
}

// A candidate of the warp's tile in shared memory.
struct alignas(16) Other {
  Corners box;
  float area;
  unsigned score;  // its bits (bits_of_score)
  int group;
  int row;
};

// What tells whether a tile must be compared at all.
struct Seen {
  bool there;
  unsigned score;
  int group;
};

__device__ Seen seen(const Job& job, const Grouping& grouping, Rows rows, int tile) {
  const int row = rows.begin + tile * 32 + lane_of_thread();
  if (row >= rows.end) return {false, 0, 0};
  return {true, bits_of_score(job.scores[row]), grouping.group(job, row)};
}

// Which of a tile's `count` candidates suppress this lane's: without a jump, so that the loads and sums of
// several are under way together.
template <bool kInclusive>
__device__ unsigned suppressors_of(const Candidate& mine, unsigned score, int row, const Other* others,
                                   int count, float iou) {
  unsigned found = 0, unknown = 0;
#pragma unroll 4
  for (int j = 0; j < count; ++j) {
    const Other& o = others[j];
    const bool better = (o.score > score) | ((o.score == score) & (o.row < row));
    const bool asked = better & (o.group == mine.group);
    const Expected e = expected_overlap<kInclusive>(o.box, o.area, mine.box, mine.area, iou);
    found |= static_cast<unsigned>(asked & e.yes) << j;
    unknown |= static_cast<unsigned>(asked & !e.yes & !e.no) << j;
  }
  for (; unknown != 0; unknown &= unknown - 1) {
    const int j = __ffs(static_cast<int>(unknown)) - 1;
    const Other& o = others[j];
    if (overlap<kInclusive>(o.box, o.area, mine.box, mine.area, iou)) found |= 1u << j;
  }
  return found;
}

// blockIdx.x: which 32 candidates of image blockIdx.y. Each warp holds them, one a lane, against every 32nd
// tile.
template <bool kInclusive>
__global__ void __launch_bounds__(kCompareThreads) compare(Job job) {
  __shared__ Other others[kWarps][32];
  __shared__ unsigned filled[kTileWords], suppressed;
  const int image = static_cast<int>(blockIdx.y), tile = static_cast<int>(blockIdx.x);
  const int lane = lane_of_thread(), warp = warp_of_thread();
  if (tile == 0 && threadIdx.x == 0) job.published[image] = 0;
  const Rows rows = rows_of_image(job, image);
  if (rows.size() > job.tiles * 32 || tile * 32 >= rows.size()) return;
  if (threadIdx.x < kTileWords) filled[threadIdx.x] = 0;
  if (threadIdx.x == kTileWords) suppressed = 0;
  const Grouping grouping(job, rows);
  __syncthreads();

  const float iou = job.threshold();
  const int row = rows.begin + tile * 32 + lane;
  const bool live = row < rows.end;
  const Candidate mine = live ? grouping.candidate(job, row) : Candidate{};
  const unsigned score = live ? bits_of_score(job.scores[row]) : 0xffffffffu;
  const unsigned worst = __reduce_min_sync(kAll, score);
  const int least_group = __reduce_min_sync(kAll, live ? mine.group : INT_MAX);
  const int most_group = __reduce_max_sync(kAll, live ? mine.group : INT_MIN);

  const std::int64_t width = std::int64_t{job.tiles} * 32;
  unsigned* out = job.suppressors + image * job.tiles * width + tile * 32 + lane;
  Seen next = seen(job, grouping, rows, warp);
  for (int t = warp; t * 32 < rows.size(); t += kWarps) {
    const Seen other = next;
    next = seen(job, grouping, rows, t + kWarps);
    const bool comparable = __reduce_max_sync(kAll, other.score) >= worst &&
                            __reduce_max_sync(kAll, other.there ? other.group : INT_MIN) >= least_group &&
                            __reduce_min_sync(kAll, other.there ? other.group : INT_MAX) <= most_group;
    if (!comparable) continue;
    if (other.there) {
      const int at = rows.begin + t * 32 + lane;
      const Candidate c = grouping.candidate(job, at);
      others[warp][lane] = {c.box, c.area, other.score, other.group, at};
    }
    __syncwarp();
    const int count = min(32, rows.size() - t * 32);
    unsigned word = suppressors_of<kInclusive>(mine, score, row, others[warp], count, iou);
    __syncwarp();
    if (!live) word = 0;
    const unsigned hit = __ballot_sync(kAll, word != 0);
    if (hit == 0) continue;
    out[t * width] = word;
    if (lane == 0) {
      atomicOr(filled + t / 32, 1u << t % 32);
      atomicOr(&suppressed, hit);
    }
  }
  __syncthreads();
  const std::int64_t at = image * job.tiles + tile;
  if (threadIdx.x < kTileWords) job.filled[at * kTileWords + threadIdx.x] = filled[threadIdx.x];
  if (warp == 0) {
    const unsigned there = __ballot_sync(kAll, live);
    if (lane == 0) job.free[at] = there & ~suppressed;
  }
}

// One image's candidates as finish() settles them, a warp a tile of 32.
struct Settling {
  const unsigned* suppressors;
  const unsigned* filled;
  std::int64_t width;
  int tiles;
  unsigned *kept, *gone;  // [tiles] in shared memory

  // Calls f(t, word) for each tile t that holds suppressors of this tile's candidates, with those of this
  // lane's; several words are on their way at a time.
  template <class F>
  __device__ void each_word(int tile, F&& f) const {
    constexpr int kAtOnce = 8;
    const int lane = lane_of_thread();
    const unsigned* const words = suppressors + tile * 32 + lane;
    const unsigned mine = lane < kTileWords ? filled[tile * kTileWords + lane] : 0;
    for (unsigned parts = __ballot_sync(kAll, mine != 0); parts != 0; parts &= parts - 1) {
      const int part = __ffs(static_cast<int>(parts)) - 1;
      for (unsigned rest = __shfl_sync(kAll, mine, part); rest != 0;) {
        int at[kAtOnce];
        unsigned word[kAtOnce];
#pragma unroll
        for (int k = 0; k < kAtOnce; ++k, rest &= rest - 1) {
          at[k] = rest != 0 ? 32 * part + __ffs(static_cast<int>(rest)) - 1 : 0;
          word[k] = rest != 0 ? words[at[k] * width] : 0;
        }
#pragma unroll
        for (int k = 0; k < kAtOnce; ++k) f(at[k], word[k]);
      }
    }
  }
};

// Marks what a free candidate suppresses: most of what goes goes here.
__device__ void settle_first(const Settling& s) {
  for (int tile = warp_of_thread(); tile < s.tiles; tile += kFinishThreads / 32) {
    unsigned hit = 0;
    s.each_word(tile, [&](int t, unsigned word) { hit |= word & s.kept[t]; });
    const unsigned hits = __ballot_sync(kAll, hit != 0);
    if (lane_of_thread() == 0) s.gone[tile] = hits;
  }
  __syncthreads();
}

// Settles the rest: in every round those whose suppressors are settled, or one of them kept. The best of
// those waiting is settled in each.
__device__ void settle_rest(const Settling& s, int count) {
  constexpr int kWarpsOfAll = kFinishThreads / 32;
  for (;;) {
    unsigned keep[kTilesAWarp], drop[kTilesAWarp];
    bool waits = false;
#pragma unroll
    for (int k = 0; k < kTilesAWarp; ++k) {
      const int tile = k * kWarpsOfAll + warp_of_thread();
      keep[k] = drop[k] = 0;
      if (tile >= s.tiles) continue;
      const unsigned last = count - tile * 32 >= 32 ? kAll : (1u << (count - tile * 32)) - 1;
      const unsigned open = last & ~(s.kept[tile] | s.gone[tile]);
      if (open == 0) continue;
      unsigned better = 0, waiting = 0;
      s.each_word(tile, [&](int t, unsigned word) {
        better |= word & s.kept[t];
        waiting |= word & ~s.gone[t];
      });
      drop[k] = open & __ballot_sync(kAll, better != 0);
      keep[k] = open & __ballot_sync(kAll, waiting == 0);
      waits = waits || (open & ~(drop[k] | keep[k])) != 0;
    }
    __syncthreads();
    if (lane_of_thread() == 0) {
#pragma unroll
      for (int k = 0; k < kTilesAWarp; ++k) {
        const int tile = k * kWarpsOfAll + warp_of_thread();
        if (keep[k] != 0) s.kept[tile] |= keep[k];
        if (drop[k] != 0) s.gone[tile] |= drop[k];
      }
    }
    if (!__syncthreads_or(waits)) return;
  }
}

// Takes from the kept those that max_per_group better ones of their group are kept beside. They suppress none
// but worse ones of that group, which go as well. By all threads; `gone` is used anew.
__device__ void limit_groups(const Job& job, Rows rows, unsigned* kept, unsigned* gone) {
  const int tiles = (rows.size() + 31) / 32;
  for (int t = static_cast<int>(threadIdx.x); t < tiles; t += kFinishThreads) gone[t] = 0;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < rows.size(); i += kFinishThreads) {
    if (!(kept[i / 32] >> i % 32 & 1)) continue;
    const int group = job.groups[rows.begin + i];
    const Rank mine = rank_of(job.scores[rows.begin + i], static_cast<unsigned>(i));
    int better = 0;
    for (int t = 0; t < tiles; ++t)
      for (unsigned word = kept[t]; word != 0; word &= word - 1) {
        const int other = 32 * t + __ffs(static_cast<int>(word)) - 1, row = rows.begin + other;
        better += job.groups[row] == group && rank_of(job.scores[row], static_cast<unsigned>(other)) > mine;
      }
    if (better >= job.max_per_group) atomicOr(gone + i / 32, 1u << i % 32);
  }
  __syncthreads();
  for (int t = static_cast<int>(threadIdx.x); t < tiles; t += kFinishThreads) kept[t] &= ~gone[t];
  __syncthreads();
}

// The best of the candidates that compare() left, sorted; returns how many.
__device__ int best_by_bits(const Job& job, int image, Rows rows, Rank* sorted, int* histogram) {
  __shared__ unsigned kept[kMostTiles], gone[kMostTiles];
  const int tiles = (rows.size() + 31) / 32;
  const std::int64_t width = std::int64_t{job.tiles} * 32;
  const Settling s{job.suppressors + image * job.tiles * width,
                   job.filled + std::int64_t{image} * job.tiles * kTileWords,
                   width,
                   tiles,
                   kept,
                   gone};
  for (int t = static_cast<int>(threadIdx.x); t < tiles; t += kFinishThreads)
    kept[t] = job.free[image * job.tiles + t];
  __syncthreads();
  settle_first(s);
  settle_rest(s, rows.size());
  if (job.max_per_group > 0) limit_groups(job, rows, kept, gone);
  const auto candidates = [&](auto&& f) {
    for (int i = static_cast<int>(threadIdx.x); i < rows.size(); i += kFinishThreads)
      if (kept[i / 32] >> i % 32 & 1)
        f(rank_of(job.scores[rows.begin + i], static_cast<unsigned>(rows.begin + i)));
  };
  return best_of(candidates, job.most(), sorted, job.sorted_size, histogram);
}

// For an image with too many candidates to compare all with all: writes the kept rows by descending score to
// `out` and returns how many.
template <bool kInclusive>
__device__ int best_by_turns(const Job& job, Rows rows, Rank* batch, int* histogram, int* out) {
  __shared__ bool alive[kBatch];
  const Grouping grouping(job, rows);
  const float iou = job.threshold();
  const int most = job.most(), me = static_cast<int>(threadIdx.x);
  int kept = 0;
  for (Rank limit = ~Rank{0}; kept < most;) {
    const auto candidates = [&](auto&& f) {
      for (int r = rows.begin + me; r < rows.end; r += kFinishThreads)
        if (const Rank rank = rank_of(job.scores[r], static_cast<unsigned>(r)); rank <= limit) f(rank);
    };
    const Rank bound = find_bound(candidates, kBatch / 2, kBatch, histogram);
    const int count = collect(candidates, bound, batch, kBatch);
    if (count == 0) break;
    if (me >= count) batch[me] = 0;
    __syncthreads();
    sort_descending(batch, kBatch);

    const int row = me < count ? static_cast<int>(index_of(batch[me])) : rows.begin;
    const Candidate mine = grouping.candidate(job, row);
    bool lives = me < count;
    for (int k = 0; lives && k < kept; ++k) {
      const Candidate c = grouping.candidate(job, out[k]);
      lives = !(c.group == mine.group && overlap<kInclusive>(c.box, c.area, mine.box, mine.area, iou));
    }
    alive[me] = lives;
    for (int i = 0; i < count && kept < most; ++i) {
      __syncthreads();
      if (!alive[i]) continue;
      const auto better = static_cast<int>(index_of(batch[i]));
      if (job.max_per_group > 0) {
        int same = 0;
        for (int k = me; k < kept; k += kFinishThreads) same += job.groups[out[k]] == job.groups[better];
        if (block_sum(same) >= job.max_per_group) continue;
      }
      if (me == i) out[kept] = better;
      ++kept;
      if (me <= i || !lives) continue;
      const Candidate c = grouping.candidate(job, better);
      lives = !(c.group == mine.group && overlap<kInclusive>(c.box, c.area, mine.box, mine.area, iou));
      if (!lives) alive[me] = false;
    }
    limit = batch[count - 1] - 1;
    const bool exhausted = batch[count - 1] == 0;
    __syncthreads();
    if (exhausted) break;
  }
  return kept;
}

template <bool kInclusive>
__global__ void __launch_bounds__(kFinishThreads) finish(Job job) {
  extern __shared__ Rank shared_ranks[];
  __shared__ int histogram[kDigits];
  const int image = static_cast<int>(blockIdx.x);
  const Rows rows = rows_of_image(job, image);
  Rank* sorted = job.sorted ? job.sorted + static_cast<std::int64_t>(image) * job.sorted_size : shared_ranks;
  int* turns = job.kept + static_cast<std::int64_t>(image) * job.max_detections;
  const bool by_bits = rows.size() <= job.tiles * 32;
  const int kept = by_bits ? best_by_bits(job, image, rows, sorted, histogram)
                           : best_by_turns<kInclusive>(job, rows, sorted, histogram, turns);
  const int before = rows_before(job.published, image, kept);
  for (int i = static_cast<int>(threadIdx.x); i < kept; i += kFinishThreads) {
    const int row = by_bits ? static_cast<int>(index_of(sorted[i])) : turns[i];
    job.out_boxes[before + i] = job.boxes[row];
    job.out_scores[before + i] = job.scores[row];
    job.out_groups[before + i] = job.groups[row];
  }
  if (threadIdx.x == 0 && blockIdx.x == gridDim.x - 1) job.out_rows.set(before + kept);
}

class NmsStep final : public CudaStep {
 public:
  explicit NmsStep(CudaPrepare& p)
      : op_(p.op<Nms>()), images_(p.input(3).dims[0]), bound_(p.input(0).dims[0]) {
    require(bound_ <= INT_MAX, "{}: {} candidates, the GPU takes up to {}", p.node().name, bound_, INT_MAX);
    const std::int64_t an_image = images_ > 0 ? (bound_ + images_ - 1) / images_ : 0;
    tiles_ = static_cast<int>(std::min<std::int64_t>((an_image + 31) / 32, kMostTiles));
    sorted_size_ = std::max(sort_size(op_.max_detections), kBatch);
    p.request_scratch(lay_out(nullptr).second);
  }

  void launch(CudaRun& run) override {
    if (images_ == 0) {  // a batch of none
      for (std::size_t i = 0; i < 3; ++i)
        if (run.out(i).rows)
          cuda_check(cudaMemsetAsync(run.out(i).rows, 0, sizeof(int), run.stream()), "nms");
      return;
    }
    const Job job = lay_out(&run).first;
    op_.inclusive ? launch_as<true>(job, run.stream()) : launch_as<false>(job, run.stream());
  }

  std::string detail() const override { return "own"; }

 private:
  template <bool kInclusive>
  void launch_as(const Job& job, cudaStream_t stream) const {
    const auto images = static_cast<unsigned>(images_);
    // At least one block, to clear what finish() counts with.
    const dim3 tiles(static_cast<unsigned>(std::max(tiles_, 1)), images);
    compare<kInclusive><<<tiles, kCompareThreads, 0, stream>>>(job);
    const std::size_t shared = job.sorted ? 0 : static_cast<std::size_t>(sorted_size_) * sizeof(Rank);
    finish<kInclusive><<<images, kFinishThreads, shared, stream>>>(job);
    cuda_check_launch("nms");
  }

  // The kernels' argument, and the bytes of scratch it takes; without a run only these.
  std::pair<Job, std::size_t> lay_out(CudaRun* run) const {
    std::byte* base = run ? run->scratch() : nullptr;
    std::size_t end = 0;
    const auto images = static_cast<std::size_t>(images_), tiles = static_cast<std::size_t>(tiles_);
    const auto take = [&]<class T>(T*, std::size_t each) {
      end = (end + alignof(T) - 1) / alignof(T) * alignof(T);
      auto* const at = reinterpret_cast<T*>(base + end);
      end += images * each * sizeof(T);
      return at;
    };
    unsigned* words = nullptr;
    int* numbers = nullptr;
    Rank* ranks = nullptr;
    unsigned* const suppressors = take(words, tiles * tiles * 32);
    unsigned* const filled = take(words, tiles * kTileWords);
    unsigned* const free = take(words, tiles);
    int* const published = take(numbers, 1);
    Rank* const sorted =
        sorted_size_ > kSortedInShared ? take(ranks, static_cast<std::size_t>(sorted_size_)) : nullptr;
    int* const kept = take(numbers, static_cast<std::size_t>(op_.max_detections));
    if (!run) return {Job{.out_rows = RowCounts()}, end};
    return {Job{.boxes = run->in(0).as<RoiRow>(),
                .scores = run->in(1).as<float>(),
                .groups = run->in(2).as<int>(),
                .rows = run->in(0).rows,
                .bound = static_cast<int>(bound_),
                .images = static_cast<int>(images_),
                .iou = op_.iou,
                .max_detections = op_.max_detections,
                .offset_limit = op_.offset_limit,
                .max_per_group = op_.max_per_group,
                .last_stage = op_.stage == 2,
                .inclusive = op_.inclusive,
                .parameters = run->parameters(),
                .tiles = tiles_,
                .suppressors = suppressors,
                .filled = filled,
                .free = free,
                .published = published,
                .sorted = sorted,
                .kept = kept,
                .sorted_size = sorted_size_,
                .out_boxes = run->out(0).as<RoiRow>(),
                .out_scores = run->out(1).as<float>(),
                .out_groups = run->out(2).as<int>(),
                .out_rows = RowCounts(*run, 3)},
            end};
  }

  Nms op_;
  std::int64_t images_, bound_;
  int tiles_ = 0, sorted_size_ = 0;
};

// TensorFlow's rules (ops/nms.h): one block an image goes down the candidates by itself (cuda/greedy.cuh).
struct MulticlassJob {
  const RoiRow* boxes;
  const float* scores;
  const int* groups;
  const int* rows;
  int bound, images;
  bool group_first;
  GreedyRules rules;
  bool last_stage;
  const CudaParameters* parameters;
  const GeometryRow* geometry;
  GreedySizes sizes;
  std::int64_t image_bytes;
  std::byte* memory;
  int* published;  // [images] (rows_before)
  RoiRow* out_boxes;
  float* out_scores;
  int* out_groups;
  RowCounts out_rows;
};

struct MulticlassSource {
  const MulticlassJob& job;
  Rows rows;

  // Rows of an image are numbered from 0, or group by group.
  __device__ int row(Rank rank) const {
    const unsigned index = index_of(rank);
    return rows.begin +
           static_cast<int>(job.group_first ? index % static_cast<unsigned>(rows.size()) : index);
  }
  __device__ int group(Rank rank) const { return job.groups[row(rank)]; }
  __device__ bool box(Rank rank, Corners* out) const {
    *out = job.boxes[row(rank)].box;
    return true;
  }
  template <class F>
  __device__ void each(Rank below, F&& f) const {
    for (int i = static_cast<int>(threadIdx.x); i < rows.size(); i += kGreedyThreads) {
      const int r = rows.begin + i;
      const auto first = job.group_first ? static_cast<unsigned>(job.groups[r] * rows.size()) : 0u;
      const Rank rank = rank_of(job.scores[r], first + static_cast<unsigned>(i));
      if (rank < below) f(rank);
    }
  }
};

__global__ void __launch_bounds__(kGreedyThreads)
    suppress_classes(const __grid_constant__ MulticlassJob job) {
  __shared__ int histogram[kDigits];
  const int image = static_cast<int>(blockIdx.x);
  const int live = live_rows(job.rows, job.bound);
  __shared__ Rows rows;
  if (warp_of_thread() == 0) {
    const int begin = first_row_of(job.boxes, live, image), end = first_row_of(job.boxes, live, image + 1);
    if (lane_of_thread() == 0) rows = {begin, end};
  }
  __syncthreads();
  GreedyRules rules = job.rules;
  if (job.last_stage) {
    const float iou = job.parameters->nms_iou;
    const int most = job.parameters->max_detections;
    if (!isnan(iou)) rules.iou = iou;
    if (most != -1) rules.most = min(max(most, 0), rules.most);
  }
  rules.height = job.geometry[image].clip_height, rules.width = job.geometry[image].clip_width;
  const GreedyMemory memory = greedy_memory(job.memory + image * job.image_bytes, job.sizes);
  const MulticlassSource source{job, rows};
  Greedy<MulticlassSource, false> greedy(source, rules, memory, static_cast<int>(job.sizes.groups),
                                         histogram);
  const int found = greedy.run();
  const int before = rows_before(job.published, image, found);
  for (int i = static_cast<int>(threadIdx.x); i < found; i += kGreedyThreads) {
    const int row = source.row(memory.found_ranks[i]);
    job.out_boxes[before + i] = {job.boxes[row].image, memory.found[i]};
    job.out_scores[before + i] = job.scores[row];
    job.out_groups[before + i] = job.groups[row];
  }
  if (threadIdx.x == 0 && blockIdx.x == gridDim.x - 1) job.out_rows.set(before + found);
}

// How many groups the candidates can have; 0: unknown.
std::int64_t groups_of(const CudaPrepare& p) {
  const Node* from = p.graph().producer(p.node().inputs[2]);
  if (!from || from->op.name() != "select_boxes") return 0;
  return p.graph().value(from->inputs[1]).type.dims[1].constant() - 1;
}

class MulticlassStep final : public CudaStep {
 public:
  explicit MulticlassStep(CudaPrepare& p)
      : op_(p.op<Nms>()), images_(p.input(3).dims[0]), bound_(p.input(0).dims[0]) {
    const std::string& name = p.node().name;
    const std::int64_t groups = groups_of(p);
    require(groups > 0, "{}: the GPU suppresses by TensorFlow's rules what select_boxes gives only", name);
    const std::int64_t candidates = images_ > 0 ? (bound_ + images_ - 1) / images_ : 0;
    require(bound_ <= INT_MAX && candidates * groups <= INT_MAX,
            "{}: {} candidates of {} classes are more than the GPU takes", name, candidates, groups);
    require(op_.max_per_group > 0 || op_.clip != KeptClip::kDropEmpty,
            "{}: the GPU needs max_per_group where empty boxes are dropped", name);
    sizes_ = {.items = kHeld,
              .kept = op_.clip == KeptClip::kDropEmpty
                          ? std::min(bound_, groups * op_.max_per_group) + op_.max_detections
                          : op_.max_detections,
              .groups = groups,
              .detections = op_.max_detections};
    image_bytes_ = static_cast<std::int64_t>(greedy_bytes(sizes_));
    p.request_scratch(static_cast<std::size_t>(images_ * (image_bytes_ + std::int64_t{sizeof(int)})));
  }

  void launch(CudaRun& run) override {
    if (images_ == 0) {  // a batch of none
      for (std::size_t i = 0; i < 3; ++i)
        if (run.out(i).rows)
          cuda_check(cudaMemsetAsync(run.out(i).rows, 0, sizeof(int), run.stream()), "nms");
      return;
    }
    auto* const published = reinterpret_cast<int*>(run.scratch() + images_ * image_bytes_);
    const auto images = static_cast<unsigned>(images_);
    if (images_ > 1) cuda_check(cudaMemsetAsync(published, 0, images * sizeof(int), run.stream()), "nms");
    const MulticlassJob job{.boxes = run.in(0).as<RoiRow>(),
                            .scores = run.in(1).as<float>(),
                            .groups = run.in(2).as<int>(),
                            .rows = run.in(0).rows,
                            .bound = static_cast<int>(bound_),
                            .images = static_cast<int>(images_),
                            .group_first = op_.group_first,
                            .rules = {.iou = op_.iou,
                                      .threshold = -INFINITY,
                                      .most = op_.max_detections,
                                      .max_per_group = op_.max_per_group,
                                      .clip = op_.clip},
                            .last_stage = op_.stage == 2,
                            .parameters = run.parameters(),
                            .geometry = run.in(3).as<GeometryRow>(),
                            .sizes = sizes_,
                            .image_bytes = image_bytes_,
                            .memory = run.scratch(),
                            .published = published,
                            .out_boxes = run.out(0).as<RoiRow>(),
                            .out_scores = run.out(1).as<float>(),
                            .out_groups = run.out(2).as<int>(),
                            .out_rows = RowCounts(run, 3)};
    suppress_classes<<<images, kGreedyThreads, 0, run.stream()>>>(job);
    cuda_check_launch("nms");
  }

  std::string detail() const override { return "own"; }

 private:
  Nms op_;
  std::int64_t images_, bound_, image_bytes_ = 0;
  GreedySizes sizes_{};
};

}  // namespace

CudaKernel nms_cuda() {
  return {.op = &kOpInfo<Nms>,
          .dtypes = {DType::kF32},
          .prepare = [](CudaPrepare& p) -> std::unique_ptr<CudaStep> {
            const auto& op = p.op<Nms>();
            const bool clips = op.clip != KeptClip::kNone || op.group_first;
            require(!op.inclusive || !clips,
                    "{}: boxes that hold their last pixel go with no clip of TensorFlow's on the GPU",
                    p.node().name);
            if (!clips && (op.inclusive || op.max_per_group == 0)) return std::make_unique<NmsStep>(p);
            return std::make_unique<MulticlassStep>(p);
          },
          .selects_rows = true};
}

}  // namespace osprey
