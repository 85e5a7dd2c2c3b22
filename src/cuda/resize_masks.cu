// Masks of whole photos and their run lengths. Pixels are numbered down the columns, as runs are. A photo is
// cut into strips of 32 columns, and these into tiles of 32 rows, a word a column: a warp takes a tile. Most
// tiles lie on one side of the threshold with every logit that they sample, and so do their pixels; most
// strips do as a whole.
//
// In three steps: find_changes marks the pixels that differ from the one before, and sums up those of a
// strip; add_runs, one block, adds up the strips of the masks; and write_runs finds the place of each column
// of the strips that have any change, and turns its marks into runs.
#include <cmath>

#include "cuda/block.cuh"
#include "cuda/boxes.cuh"
#include "cuda/kernel.h"
#include "cuda/mask_runs.cuh"
#include "cuda/numbers.cuh"
#include "ops/resize_masks.h"

namespace osprey {
namespace {

using namespace cuda;

constexpr int kColumns = 32, kRows = 32;  // of a tile
constexpr int kMostRows = 16384;          // of a photo: a strip's words lie in shared memory
constexpr int kScanThreads = 1024;
constexpr int kWarps = kBlock / 32;

// How many changes there are, and the position of the last one, 0 for none.
struct Summary {
  int runs;
  unsigned last;
};
__device__ Summary joined(const Summary& a, const Summary& b) {
  return {a.runs + b.runs, max(a.last, b.last)};  // positions rise
}

struct Task {
  const float* logits;
  const RoiRow* boxes;
  const int* rows;  // the logits that a box shows
  const GeometryRow* geometry;
  const int* live;
  const CudaParameters* parameters;
  float limit;  // for the op's threshold, unless the parameters say otherwise
  int map_height, map_width, bound;
  int strips, words;   // of a mask; of a column: at most
  unsigned* changes;   // [bound, strips, words, kColumns]: a bit a row
  Summary* summaries;  // [bound, strips]

  __device__ int count() const { return live_rows(live, bound); }
  __device__ unsigned* changes_of(int e, int strip) const {
    return changes + (static_cast<std::int64_t>(e) * strips + strip) * words * kColumns;
  }
  __device__ Summary* summaries_of(int e) const { return summaries + static_cast<std::int64_t>(e) * strips; }
};

// The photo that a mask is of.
struct Frame {
  int height, width;
  __device__ explicit Frame(const GeometryRow& g)
      : height(static_cast<int>(g.height)), width(static_cast<int>(g.width)) {}
  __device__ Frame(const Task& task, int e) : Frame(task.geometry[static_cast<int>(task.boxes[e].image)]) {}

  __device__ int strips() const { return (width + kColumns - 1) / kColumns; }
  __device__ int words() const { return (height + kRows - 1) / kRows; }
  __device__ unsigned position(int px, int py) const {
    return static_cast<unsigned>(px) * static_cast<unsigned>(height) + static_cast<unsigned>(py);
  }
};

// Where a pixel of the photo samples an axis of the map.
struct Tap {
  int low, high;
  float weight;  // of the second
};

struct Axis {
  int in;
  float factor;
  __device__ Axis(int from, int to) : in(from), factor(static_cast<float>(from) / static_cast<float>(to)) {}
  __device__ Tap operator()(int i) const {
    const float at = fmaxf(0.0f, (static_cast<float>(i) + 0.5f) * factor - 0.5f);
    const int low = min(static_cast<int>(at), in - 1);
    return {low, min(low + 1, in - 1), at - static_cast<float>(low)};
  }
};

__device__ float blend(float low, float high, float weight) { return low * (1 - weight) + high * weight; }

// Sigmoids rise with their logits.
float limit_of(float threshold) { return std::log(threshold / (1 - threshold)); }

// Which side of the threshold some logits are on, and with them every blend of them.
struct Side {
  bool above = true, below = true;

  __device__ void add(float logit, float limit) {
    const float slack = 4e-6f * fabsf(logit) + 1e-30f;  // more than blends may round or lose
    above = above && logit - slack > limit;
    below = below && logit + slack < limit;
  }
};

struct Mask : Frame {
  const float* map;
  int map_height, map_width;
  Axis x, y;
  float limit;

  __device__ Mask(const Task& task, int e)
      : Frame(task, e),
        map(task.logits + static_cast<std::int64_t>(task.rows[e]) * task.map_height * task.map_width),
        map_height(task.map_height),
        map_width(task.map_width),
        x(task.map_width, width),
        y(task.map_height, height) {
    const float asked = task.parameters->mask_threshold;
    limit = isnan(asked) ? task.limit : log_rounded(asked / (1 - asked));
  }

  __device__ float logit(int row, int column) const {
    return __ldg(map + static_cast<std::int64_t>(row) * map_width + column);
  }
  // A row of logits at a column of the photo.
  __device__ float across(const Tap& column, int row) const {
    return blend(logit(row, column.low), logit(row, column.high), column.weight);
  }
  __device__ bool inside(int px, int py) const {
    const Tap column = x(px), row = y(py);
    return blend(across(column, row.low), across(column, row.high), row.weight) > limit;
  }

  // A bit for each row of a tile, of the lane's column; what lies outside the photo repeats its edge.
  __device__ unsigned word(int strip, int w) const {
    const int lane = lane_of_thread();
    const Tap column = x(min(strip * kColumns + lane, width - 1)), row = y(min(w * kRows + lane, height - 1));
    const Side side = side_of_tile(column, row);
    if (__all_sync(kAll, side.above)) return ~0u;
    if (__all_sync(kAll, side.below)) return 0;
    unsigned bits = 0;
    float low = 0, high = 0;
    for (int i = 0, held = -1; i < kRows; ++i) {
      const int at = __shfl_sync(kAll, row.low, i);
      const float weight = __shfl_sync(kAll, row.weight, i);
      if (at != held) low = across(column, at), high = across(column, __shfl_sync(kAll, row.high, i));
      held = at;
      if (blend(low, high, weight) > limit) bits |= 1u << i;
    }
    return bits;
  }

  // Of the thread's share of a block of the logits that a strip samples.
  __device__ Side side_of_strip(int strip) const {
    const int first = strip * kColumns, last = min(first + kColumns, width) - 1;
    return side_of(static_cast<int>(threadIdx.x), kBlock / kLooked, 0, map_height - 1, x(first).low,
                   x(last).high);
  }

 private:
  static constexpr int kLooked = 8;  // logits of a row, at a time

  // Of the lane's share, between the taps of the first and of the last lane.
  __device__ Side side_of_tile(const Tap& column, const Tap& row) const {
    return side_of(lane_of_thread(), 32 / kLooked, __shfl_sync(kAll, row.low, 0),
                   __shfl_sync(kAll, row.high, 31), __shfl_sync(kAll, column.low, 0),
                   __shfl_sync(kAll, column.high, 31));
  }

  // `rows` at a time.
  __device__ Side side_of(int thread, int rows, int top, int bottom, int left, int right) const {
    Side side;
    for (int r = top + thread / kLooked; r <= bottom; r += rows)
      for (int c = left + thread % kLooked; c <= right; c += kLooked) side.add(logit(r, c), limit);
    return side;
  }
};

// A block a strip of a mask. Outside the photo there is no mask.
__global__ void __launch_bounds__(kBlock) find_changes(const __grid_constant__ Task task) {
  extern __shared__ unsigned inside[];  // [words, kColumns]
  const int strip = static_cast<int>(blockIdx.x), e = static_cast<int>(blockIdx.y);
  if (e >= task.count()) return;
  const Mask mask(task, e);
  if (strip >= mask.strips()) return;
  __shared__ int runs;
  __shared__ unsigned last;
  if (threadIdx.x == 0) runs = 0, last = 0;
  const int words = mask.words(), lane = lane_of_thread(), px = strip * kColumns + lane;
  const Side side = mask.side_of_strip(strip);
  const bool above = __syncthreads_and(side.above), below = __syncthreads_and(side.below);
  for (int w = warp_of_thread(); w < words; w += kWarps)
    inside[w * kColumns + lane] = above ? ~0u : below ? 0 : mask.word(strip, w);
  __syncthreads();
  const auto before_column = [&]() -> bool {
    if (px == 0) return false;
    if (lane == 0) return mask.inside(px - 1, mask.height - 1);
    return inside[(words - 1) * kColumns + lane - 1] >> 31;  // rows below the photo repeat the last
  };
  const auto changed = [&](int w) -> unsigned {
    if (px >= mask.width) return 0;
    const unsigned own = inside[w * kColumns + lane];
    const bool before = w > 0 ? inside[(w - 1) * kColumns + lane] >> 31 : before_column();
    return own ^ (own << 1 | static_cast<unsigned>(before));
  };
  for (int w = warp_of_thread(); w < words; w += kWarps) {
    const unsigned bits = changed(w);
    if (bits == 0) continue;
    atomicAdd(&runs, __popc(bits));
    atomicMax(&last, mask.position(px, w * kRows + 31 - __clz(static_cast<int>(bits))));
  }
  __syncthreads();
  if (threadIdx.x == 0) task.summaries_of(e)[strip] = {runs, last};
  if (runs == 0) return;  // write_runs does not look
  unsigned* const changes = task.changes_of(e, strip);
  for (int w = warp_of_thread(); w < words; w += kWarps) changes[w * kColumns + lane] = changed(w);
}

// A thread a mask, then the last run of each.
__global__ void __launch_bounds__(kScanThreads)
    add_runs(const __grid_constant__ Task task, unsigned* last_runs, int* ends, unsigned* runs, int* rows,
             int capacity) {
  const int count = task.count();
  for (int e = static_cast<int>(threadIdx.x); e < count; e += kScanThreads) {
    const Frame photo(task, e);
    const Summary* const strips = task.summaries_of(e);
    Summary all{0, 0};
#pragma unroll 8
    for (int s = 0; s < photo.strips(); ++s) all = joined(all, strips[s]);
    ends[e] = all.runs + 1;
    last_runs[e] = photo.position(photo.width, 0) - all.last;
  }
  close_masks(count, ends, last_runs, runs, rows, capacity);
}

// Of all lanes.
__device__ Summary warp_total(Summary v) {
  for (int step = 16; step > 0; step /= 2)
    v = joined(v, {__shfl_xor_sync(kAll, v.runs, step), __shfl_xor_sync(kAll, v.last, step)});
  return v;
}

// Of the lanes before this one, and `first`.
__device__ Summary warp_before(const Summary& own, const Summary& first) {
  const int lane = lane_of_thread();
  Summary sum = own;
  for (int step = 1; step < 32; step *= 2) {
    const Summary before{__shfl_up_sync(kAll, sum.runs, step), __shfl_up_sync(kAll, sum.last, step)};
    if (lane >= step) sum = joined(before, sum);
  }
  const Summary before{__shfl_up_sync(kAll, sum.runs, 1), __shfl_up_sync(kAll, sum.last, 1)};
  return lane == 0 ? first : joined(first, before);
}

// A warp a strip of a mask, a lane a column.
__global__ void __launch_bounds__(kBlock) write_runs(const __grid_constant__ Task task, const int* ends,
                                                     unsigned* runs, const int* rows, int capacity) {
  const int strip = static_cast<int>(blockIdx.x) * kWarps + warp_of_thread();
  const int e = static_cast<int>(blockIdx.y), lane = lane_of_thread();
  if (e >= task.count() || *rows > capacity) return;
  const Frame photo(task, e);
  const Summary* const strips = task.summaries_of(e);
  if (strip >= photo.strips() || strips[strip].runs == 0) return;
  Summary earlier{0, 0}, column{0, 0};
  for (int s = lane; s < strip; s += 32) earlier = joined(earlier, strips[s]);
  const unsigned* const changes = task.changes_of(e, strip) + lane;
  const int words = photo.words(), px = strip * kColumns + lane;
  const auto position = [&](int w, int bit) { return photo.position(px, w * kRows + bit); };
#pragma unroll 4
  for (int w = 0; w < words; ++w)
    if (const unsigned changed = changes[w * kColumns]; changed != 0)
      column = joined(column, {__popc(changed), position(w, 31 - __clz(static_cast<int>(changed)))});
  const Summary place = warp_before(column, warp_total(earlier));
  unsigned* run = runs + (e > 0 ? ends[e - 1] : 0) + place.runs;
  unsigned last = place.last;
  for (int w = 0; w < words; ++w)
    for (unsigned left = changes[w * kColumns]; left != 0; left &= left - 1) {
      const unsigned at = position(w, __ffs(static_cast<int>(left)) - 1);
      *run++ = at - last;
      last = at;
    }
}

class ResizeMasksStep final : public CudaStep {
 public:
  explicit ResizeMasksStep(CudaPrepare& p) {
    const CudaPhotos& photos = p.photos();
    const Shape& maps = p.input(0).dims;
    task_.map_height = static_cast<int>(maps[1]);
    task_.map_width = static_cast<int>(maps[2]);
    task_.bound = static_cast<int>(p.input(1).dims[0]);
    task_.limit = limit_of(p.op<ResizeMasks>().threshold);
    require(photos.max_height <= kMostRows && task_.bound <= 65535,
            "{}: the GPU takes masks of up to {} rows, and up to 65535 of them", p.node().name, kMostRows);
    task_.words = (photos.max_height + kRows - 1) / kRows;
    task_.strips = (photos.max_width + kColumns - 1) / kColumns;
    strips_ = static_cast<std::size_t>(task_.bound) * static_cast<std::size_t>(task_.strips);
    p.request_scratch(strips_ * (sizeof(Summary) + strip_bytes()) +
                      static_cast<std::size_t>(task_.bound) * sizeof(unsigned));
    cuda_check(cudaFuncSetAttribute(find_changes, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(kMostRows / kRows * kColumns * sizeof(unsigned))),
               "resize_masks");
  }

  void launch(CudaRun& run) override {
    if (task_.bound == 0) return;
    Task task = task_;
    task.logits = run.in(0).as<float>();
    task.boxes = run.in(1).as<RoiRow>();
    task.rows = run.in(2).as<int>();
    task.geometry = run.in(3).as<GeometryRow>();
    task.live = run.in(1).rows;
    task.parameters = run.parameters();
    task.summaries = reinterpret_cast<Summary*>(run.scratch());
    task.changes = reinterpret_cast<unsigned*>(task.summaries + strips_);
    auto* const last_runs = task.changes + strips_ * strip_bytes() / sizeof(unsigned);
    auto* const runs = run.out(0).as<unsigned>();
    auto* const ends = run.out(1).as<int>();
    int* const rows = run.out(0).rows;
    const auto capacity = static_cast<int>(run.out(0).dims[0]);
    const auto strips = static_cast<unsigned>(task.strips), masks = static_cast<unsigned>(task.bound);
    find_changes<<<dim3(strips, masks), kBlock, strip_bytes(), run.stream()>>>(task);
    add_runs<<<1, kScanThreads, 0, run.stream()>>>(task, last_runs, ends, runs, rows, capacity);
    write_runs<<<dim3(blocks_for(strips, kWarps), masks), kBlock, 0, run.stream()>>>(task, ends, runs, rows,
                                                                                     capacity);
    cuda_check_launch("resize_masks");
  }

  std::string detail() const override { return "own"; }

 private:
  // Of a strip's words.
  std::size_t strip_bytes() const {
    return static_cast<std::size_t>(task_.words) * kColumns * sizeof(unsigned);
  }

  Task task_{};
  std::size_t strips_ = 0;  // of all masks
};

}  // namespace

CudaKernel resize_masks_cuda() {
  return {.op = &kOpInfo<ResizeMasks>,
          .dtypes = {DType::kF32},
          .prepare = [](CudaPrepare& p) -> std::unique_ptr<CudaStep> {
            return std::make_unique<ResizeMasksStep>(p);
          }};
}

}  // namespace osprey
