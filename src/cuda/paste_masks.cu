// Masks into photos, as image/paste_mask.cpp does it, and their run lengths, in three steps: a block counts
// how often the mask changes between neighbouring pixels in a chunk of columns; one block adds the counts up;
// and blocks write the runs, each from one change to the next, of the same chunks, which they find a second
// time.
#include <cfloat>
#include <cmath>

#include "cuda/block.cuh"
#include "cuda/boxes.cuh"
#include "cuda/kernel.h"
#include "cuda/mask_runs.cuh"
#include "cuda/numbers.cuh"
#include "ops/paste_masks.h"

namespace osprey {
namespace {

using namespace cuda;

constexpr int kBorder = 2;          // zeros on each side of a map: samples beyond them are zero too
constexpr int kBlocksAMask = 16;    // which share its chunks
constexpr int kScanThreads = 1024;  // of the block that adds up
constexpr float kFar = 1 << 24;     // whole numbers are exact up to here

// What stays the same for all masks.
struct Task {
  const float* maps;  // size x size each
  const RoiRow* boxes;
  const int* map_of;  // the map that a box shows
  const GeometryRow* geometry;
  const int* live;
  int size, bound;     // of maps; boxes at most
  int columns, words;  // of a chunk; 32-pixel words of a column
  int chunks;          // of a mask, at most
  float threshold;     // unless the parameters say otherwise
  const CudaParameters* parameters;
  PasteRule rule;

  __device__ int count() const { return live_rows(live, bound); }
  constexpr int side() const { return size + 2 * kBorder; }  // of a padded map
  constexpr int pitch() const { return side() + 1; }         // odd where maps are even: fewer bank conflicts
};

// One side of the pixels that are looked at, and where in the map they lie.
struct Side {
  int begin, end;  // pixels; begin == end where there are none
  float low, extent, half, size;
  PasteRule rule;
  float start = 0, step = 0;  // by corners: of samples, in cells; padded: the first pixel, cells a pixel

  // As image/paste_mask.cpp has it.
  __device__ Side(float from, float to, int length, int map_size, PasteRule by_rule)
      : begin(0),
        end(0),
        low(from),
        extent(to - from),
        half(static_cast<float>(map_size) / 2),
        size(static_cast<float>(map_size)),
        rule(by_rule) {
    const float all = static_cast<float>(length);
    float first = floorf(from) - 1, last = ceilf(to) + 1;
    if (rule == PasteRule::kCorners) {
      const float low_share = from / all, share = (to - from) / all;
      const float low_edge = (0 - low_share) / share, high_edge = (1 - low_share) / share;
      start = length > 1 ? low_edge * (size - 1) : 0.5f * (low_edge + high_edge) * (size - 1);
      step = length > 1 ? (high_edge - low_edge) * (size - 1) / static_cast<float>(length - 1) : 0;
    } else if (rule == PasteRule::kPadded) {
      const float grown = (to - from) * 0.5f * ((size + 2) / size), centre = (to + from) * 0.5f;
      first = truncf(clamp_keeping_nan(centre - grown, -kFar, kFar));
      last = truncf(clamp_keeping_nan(centre + grown, -kFar, kFar)) + 1;
      start = first, step = (size + 2) / (last - first);
    }
    // Conditions as std::max and std::min have them, which decides where a NaN goes.
    const float b = first < 0.f ? 0.f : first, e = all < last ? all : last;
    if (b < e) begin = static_cast<int>(b), end = static_cast<int>(e);
  }
};

// The map's row or column below a pixel, into the padded map, and the weights of that and of the next.
struct Place {
  int index;
  float near, far;
};

__device__ Place place(const Side& side, int pixel) {
  float at;
  if (side.rule == PasteRule::kCorners) {
    at = side.start + static_cast<float>(pixel) * side.step;
    if (!(at >= 0 && at <= side.size - 1)) at = NAN;
  } else if (side.rule == PasteRule::kPadded) {
    at = __fmaf_rn(side.step, static_cast<float>(pixel) - side.start + 0.5f, -0.5f) - 1;
  } else {
    const float relative = (static_cast<float>(pixel) + 0.5f - side.low) / side.extent * 2 - 1;
    at = __fmaf_rn(relative + 1, side.half, -0.5f);
  }
  const float cell = floorf(at), far = at - cell;
  // A NaN lands in the border too, and its weights keep it out of the mask.
  const int index =
      kBorder + (cell > -kBorder ? static_cast<int>(side.size < cell ? side.size : cell) : -kBorder);
  return {index, 1 - far, far};
}

struct Mask {
  Side x, y;
  int height, width;  // of the photo
  const float* map;
  float threshold;

  __device__ Mask(const Task& task, int e) : Mask(task, task.boxes[e], task.map_of[e]) {}
  __device__ Mask(const Task& task, const RoiRow& roi, int row)
      : Mask(task, roi.box, task.geometry[static_cast<int>(roi.image)],
             task.maps + static_cast<std::int64_t>(row) * task.size * task.size) {}
  __device__ Mask(const Task& task, const Corners& box, const GeometryRow& g, const float* probabilities)
      : x(box.x0, box.x1, static_cast<int>(g.width), task.size, task.rule),
        y(box.y0, box.y1, static_cast<int>(g.height), task.size, task.rule),
        height(static_cast<int>(g.height)),
        width(static_cast<int>(g.width)),
        map(probabilities) {
    if (x.begin == x.end || y.begin == y.end) x.end = x.begin, y.end = y.begin;
    const float asked = task.parameters->mask_threshold;
    const float wanted = isnan(asked) ? task.threshold : asked;
    threshold = wanted < FLT_MIN ? FLT_MIN : wanted;  // at 0 a mask would be the whole photo
    // What must be above the threshold is at least the next number.
    if (task.rule == PasteRule::kPadded) threshold = nextafterf(threshold, INFINITY);
  }

  __device__ int chunks(const Task& task) const {
    return (x.end - x.begin + task.columns - 1) / task.columns;
  }
  __device__ int rows() const { return y.end - y.begin; }
  // The words of a column that hold its pixels and the one behind them.
  __device__ int words() const { return rows() / 32 + 1; }
  // Whether the last pixel of a column is followed by the first of the next.
  __device__ bool whole_height() const { return y.begin == 0 && y.end == height; }
};

// A block's shared memory.
struct Memory {
  Place* columns;  // of the chunk
  float* map;      // within two cells of zeros
  unsigned* bits;

  __device__ Memory(const Task& task, unsigned* words)
      : columns(reinterpret_cast<Place*>(words)),
        map(reinterpret_cast<float*>(columns + task.columns + 1)),
        bits(reinterpret_cast<unsigned*>(map + task.side() * task.pitch())) {}

  static std::size_t bytes(const Task& task) {
    const std::size_t columns = static_cast<std::size_t>(task.columns) + 1;
    return columns * sizeof(Place) + static_cast<std::size_t>(task.side() * task.pitch()) * sizeof(float) +
           columns * static_cast<std::size_t>(task.words) * sizeof(unsigned);
  }
};

// The pixels of a chunk of columns, a bit each, in shared memory: word w of column i has rows 32 w and on,
// from y.begin. Column 0 is the one before the chunk.
struct Chunk {
  const Mask& mask;
  Memory memory;
  int words, first, count;  // words of a column; photo column of column 1; columns

  __device__ Chunk(const Task& task, const Mask& of, int chunk, const Memory& shared)
      : mask(of),
        memory(shared),
        words(of.words()),
        first(of.x.begin + chunk * task.columns),
        count(min(task.columns, of.x.end - first)) {}

  // All threads together, after pad().
  __device__ void sample(const Task& task) const {
    constexpr int kWarps = kBlock / 32;
    for (int i = static_cast<int>(threadIdx.x); i <= count; i += kBlock)
      memory.columns[i] = place(mask.x, first + i - 1);
    __syncthreads();
    const int groups = count / kTogether + 1;  // of columns 0 to count
    for (int item = warp_of_thread(); item < words * groups; item += kWarps)
      sample_word(task, item % words, item / words * kTogether);
    __syncthreads();
  }

  // Which pixels of the word differ from the ones before them.
  __device__ unsigned changes(int i, int w) const {
    const unsigned word = memory.bits[i * words + w];
    unsigned before = 0;
    if (w > 0) {
      before = memory.bits[i * words + w - 1] >> 31;
    } else if (mask.whole_height()) {
      const int last = mask.rows() - 1;
      before = memory.bits[(i - 1) * words + last / 32] >> last % 32 & 1;
    }
    const unsigned out = word ^ (word << 1 | before);
    return w == words - 1 && !ends_in_photo(i) ? out & ~(1u << mask.rows() % 32) : out;
  }
  // The position of a word's first pixel in the photo, column by column.
  __device__ unsigned position(int i, int w) const {
    return static_cast<unsigned>(first + i - 1) * static_cast<unsigned>(mask.height) +
           static_cast<unsigned>(mask.y.begin + 32 * w);
  }

 private:
  static constexpr int kTogether = 8;  // columns that a warp takes at a time

  // Word w of columns [begin, begin + kTogether).
  __device__ void sample_word(const Task& task, int w, int begin) const {
    const int row = 32 * w + lane_of_thread(), pitch = task.pitch();
    const Place y = place(mask.y, mask.y.begin + row);
    const float* const line = memory.map + y.index * pitch;
    float corners[4] = {};
    int loaded = -1;  // the map's column that these are of: the same for many columns of the photo
    for (int i = max(begin, mask.whole_height() ? 0 : 1); i <= min(begin + kTogether - 1, count); ++i) {
      const Place x = memory.columns[i];
      if (x.index != loaded) {
        const float* const cell = line + x.index;
        corners[0] = cell[0], corners[1] = cell[1], corners[2] = cell[pitch], corners[3] = cell[pitch + 1];
        loaded = x.index;
      }
      // The fused operations are torch's (image/paste_mask.cpp).
      float value = corners[0] * (x.near * y.near);
      value = __fmaf_rn(corners[1], x.far * y.near, value);
      value = __fmaf_rn(corners[2], x.near * y.far, value);
      value = __fmaf_rn(corners[3], x.far * y.far, value);
      const bool inside = row < mask.rows() && first + i - 1 >= mask.x.begin && value >= mask.threshold;
      const unsigned word = __ballot_sync(kAll, inside);
      if (lane_of_thread() == 0) memory.bits[i * words + w] = word;
    }
  }

  // Whether the pixel behind column i is in the photo and not one of the mask's next column.
  __device__ bool ends_in_photo(int i) const {
    const int next = first + i;
    return mask.y.end < mask.height || (next < mask.width && (mask.y.begin > 0 || next == mask.x.end));
  }
};

__device__ void pad(const Task& task, const Mask& mask, float* padded) {
  for (int i = static_cast<int>(threadIdx.x); i < task.side() * task.pitch(); i += kBlock) {
    const int y = i / task.pitch() - kBorder, x = i % task.pitch() - kBorder;
    const bool inside = x >= 0 && y >= 0 && x < task.size && y < task.size;
    padded[i] = inside ? mask.map[y * task.size + x] : 0.f;
  }
}

__device__ unsigned last_bit(unsigned word) {
  return 31u - static_cast<unsigned>(__clz(static_cast<int>(word)));
}

// The largest over the threads before this one, 0 before the first; *total: over all.
__device__ unsigned block_exclusive_max(unsigned v, unsigned* total) {
  __shared__ unsigned warps[kBlock / 32];
  const int lane = lane_of_thread();
  for (int step = 1; step < 32; step *= 2) {
    const unsigned before = __shfl_up_sync(kAll, v, step);
    if (lane >= step) v = max(v, before);
  }
  __syncthreads();  // of an earlier call
  if (lane == 31) warps[warp_of_thread()] = v;
  const unsigned earlier = __shfl_up_sync(kAll, v, 1);
  __syncthreads();
  unsigned out = lane == 0 ? 0 : earlier;
  *total = 0;
  for (int w = 0; w < kBlock / 32; ++w) {
    if (w < warp_of_thread()) out = max(out, warps[w]);
    *total = max(*total, warps[w]);
  }
  return out;
}

// What a chunk adds to the runs of its mask: how many, and the position behind which the last begins, 0 for
// none. Later how many come before it, and where the last one before it begins.
struct Summary {
  int runs;
  unsigned last;
};

__global__ void __launch_bounds__(kBlock) count_runs(Task task, Summary* summaries) {
  extern __shared__ unsigned words[];
  const int e = static_cast<int>(blockIdx.y);
  if (e >= task.count()) return;
  const Mask mask(task, e);
  const Memory memory(task, words);
  if (static_cast<int>(blockIdx.x) < mask.chunks(task)) pad(task, mask, memory.map);
  __shared__ int runs;
  __shared__ unsigned last;
  for (int c = static_cast<int>(blockIdx.x); c < mask.chunks(task); c += kBlocksAMask) {
    const Chunk chunk(task, mask, c, memory);
    if (threadIdx.x == 0) runs = 0, last = 0;
    chunk.sample(task);
    for (int i = static_cast<int>(threadIdx.x); i < chunk.count * chunk.words; i += kBlock) {
      const int column = 1 + i / chunk.words, w = i % chunk.words;
      const unsigned changes = chunk.changes(column, w);
      if (changes == 0) continue;
      atomicAdd(&runs, __popc(changes));
      atomicMax(&last, chunk.position(column, w) + last_bit(changes));
    }
    __syncthreads();
    if (threadIdx.x == 0) summaries[static_cast<std::int64_t>(e) * task.chunks + c] = {runs, last};
    __syncthreads();
  }
}

// Sums within masks by a warp each, over masks by all threads; then the last run of each mask.
__global__ void __launch_bounds__(kScanThreads) add_runs(Task task, Summary* summaries, unsigned* last_runs,
                                                         int* ends, unsigned* runs, int* rows, int capacity) {
  const int lane = lane_of_thread(), count = task.count();
  for (int e = warp_of_thread(); e < count; e += kScanThreads / 32) {
    const Mask mask(task, e);
    Summary before{0, 0};
    for (int c = 0; c < mask.chunks(task); c += 32) {
      Summary* const at = summaries + static_cast<std::int64_t>(e) * task.chunks + c + lane;
      const bool there = c + lane < mask.chunks(task);
      const Summary own = there ? *at : Summary{0, 0};
      Summary sum = own;
      for (int step = 1; step < 32; step *= 2) {
        const int add = __shfl_up_sync(kAll, sum.runs, step);
        const unsigned other = __shfl_up_sync(kAll, sum.last, step);
        if (lane >= step) sum = {sum.runs + add, max(sum.last, other)};
      }
      const unsigned earlier = __shfl_up_sync(kAll, sum.last, 1);
      if (there)
        *at = {before.runs + sum.runs - own.runs, lane == 0 ? before.last : max(before.last, earlier)};
      before = {before.runs + __shfl_sync(kAll, sum.runs, 31),
                max(before.last, __shfl_sync(kAll, sum.last, 31))};
    }
    if (lane == 0) {
      ends[e] = before.runs + 1;
      last_runs[e] = static_cast<unsigned>(mask.height) * static_cast<unsigned>(mask.width) - before.last;
    }
  }
  close_masks(count, ends, last_runs, runs, rows, capacity);
}

// A thread a word of a column, in the order of the runs: each finds its place by a sum over the block, and
// where the run before its first begins by a maximum.
__global__ void __launch_bounds__(kBlock) write_runs(Task task, const Summary* summaries, const int* ends,
                                                     unsigned* runs, const int* rows, int capacity) {
  extern __shared__ unsigned words[];
  const int e = static_cast<int>(blockIdx.y);
  if (e >= task.count() || *rows > capacity) return;
  const Mask mask(task, e);
  const Memory memory(task, words);
  if (static_cast<int>(blockIdx.x) < mask.chunks(task)) pad(task, mask, memory.map);
  unsigned* const mask_runs = runs + (e > 0 ? ends[e - 1] : 0);
  for (int c = static_cast<int>(blockIdx.x); c < mask.chunks(task); c += kBlocksAMask) {
    const Chunk chunk(task, mask, c, memory);
    __syncthreads();  // of the chunk before
    chunk.sample(task);
    Summary before = summaries[static_cast<std::int64_t>(e) * task.chunks + c];
    for (int begin = 0; begin < chunk.count * chunk.words; begin += kBlock) {
      const int i = begin + static_cast<int>(threadIdx.x), column = 1 + i / chunk.words, w = i % chunk.words;
      unsigned changes = i < chunk.count * chunk.words ? chunk.changes(column, w) : 0;
      const unsigned position = chunk.position(column, w);
      const unsigned own = changes == 0 ? 0 : position + last_bit(changes);
      Summary total;
      const int place = before.runs + block_exclusive_sum(__popc(changes), &total.runs);
      unsigned last = max(before.last, block_exclusive_max(own, &total.last));
      for (unsigned* run = mask_runs + place; changes != 0; changes &= changes - 1) {
        const unsigned at = position + static_cast<unsigned>(__ffs(static_cast<int>(changes))) - 1;
        *run++ = at - last;
        last = at;
      }
      before = {before.runs + total.runs, max(before.last, total.last)};
    }
  }
}

class PasteMasksStep final : public CudaStep {
 public:
  explicit PasteMasksStep(CudaPrepare& p) {
    const CudaPhotos& photos = p.photos();
    task_.size = static_cast<int>(p.input(0).dims[1]);
    task_.bound = static_cast<int>(p.input(1).dims[0]);
    task_.words = photos.max_height / 32 + 1;
    task_.threshold = p.op<PasteMasks>().threshold;
    task_.rule = p.op<PasteMasks>().rule;
    choose_columns(p);
    task_.chunks = (photos.max_width + task_.columns - 1) / task_.columns;
    summaries_ = static_cast<std::size_t>(task_.bound) * static_cast<std::size_t>(task_.chunks);
    p.request_scratch(summaries_ * sizeof(Summary) +
                      static_cast<std::size_t>(task_.bound) * sizeof(unsigned));
    for (const void* kernel :
         {reinterpret_cast<const void*>(count_runs), reinterpret_cast<const void*>(write_runs)})
      cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(Memory::bytes(task_))),
                 "paste_masks");
  }

  void launch(CudaRun& run) override {
    if (task_.bound == 0) return;
    Task task = task_;
    task.maps = run.in(0).as<float>();
    task.boxes = run.in(1).as<RoiRow>();
    task.map_of = run.in(2).as<int>();
    task.geometry = run.in(3).as<GeometryRow>();
    task.live = run.in(1).rows;
    task.parameters = run.parameters();
    auto* const summaries = reinterpret_cast<Summary*>(run.scratch());
    auto* const last_runs = reinterpret_cast<unsigned*>(summaries + summaries_);
    auto* const runs = run.out(0).as<unsigned>();
    auto* const ends = run.out(1).as<int>();
    int* const rows = run.out(0).rows;
    const auto capacity = static_cast<int>(run.out(0).dims[0]);
    const dim3 grid(kBlocksAMask, static_cast<unsigned>(task.bound));
    const std::size_t shared = Memory::bytes(task);
    count_runs<<<grid, kBlock, shared, run.stream()>>>(task, summaries);
    add_runs<<<1, kScanThreads, 0, run.stream()>>>(task, summaries, last_runs, ends, runs, rows, capacity);
    write_runs<<<grid, kBlock, shared, run.stream()>>>(task, summaries, ends, runs, rows, capacity);
    cuda_check_launch("paste_masks");
  }

 private:
  // As many columns a chunk as let several blocks share the memory of a multiprocessor.
  void choose_columns(const CudaPrepare& p) {
    const std::size_t room = p.device().shared_bytes_optin;
    task_.columns = 32;
    while (task_.columns > 1 && Memory::bytes(task_) > room / 4) task_.columns /= 2;
    require(Memory::bytes(task_) <= room, "{}: the GPU does not paste maps of {} x {} into photos of {} rows",
            p.node().name, task_.size, task_.size, p.photos().max_height);
  }

  Task task_{};
  std::size_t summaries_ = 0;
};

}  // namespace

CudaKernel paste_masks_cuda() {
  return {.op = &kOpInfo<PasteMasks>,
          .dtypes = {DType::kF32},
          .prepare = [](CudaPrepare& p) -> std::unique_ptr<CudaStep> {
            return std::make_unique<PasteMasksStep>(p);
          }};
}

}  // namespace osprey
