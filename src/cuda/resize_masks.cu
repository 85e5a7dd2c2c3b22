// Masks of whole photos and their run lengths. Pixels are numbered down the columns, as runs are. A photo is
// cut into strips of 32 columns, and these into segments of some rows, a warp each. A lane walks down its
// column of a segment, from one row of logits to the next: neighbouring lanes read neighbouring logits, a
// lane blends those of a row once, and where both rows are clearly on one side of the threshold, so are the
// pixels between.
//
// In three steps: count_changes counts how often each segment differs from the pixel before, and where last, and
// sums these for the strips; add_runs, one block, adds up the strips; and write_runs finds each segment's place in
// its strip by a scan, and walks again down the segments that have any change.
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

constexpr int kColumns = 32;       // of a strip
constexpr int kLeastSegment = 64;  // rows
constexpr int kMostSegment = 128;  // counts and rows are 8 bits
constexpr int kMostSegments = 128;
constexpr int kScanThreads = 1024;
constexpr int kWarps = kBlock / 32;

// Changes of a segment, and the row of the last one.
struct Changes {
  std::uint8_t count, last;
};

// How often the mask changes in a strip, and the position at the last change, 0 for none. Later how many
// changes come before it, and where the last one before it is.
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
  int strips, segments, segment;  // of a mask, at most; of a column; rows of a segment
  Changes* changes;               // [bound, strips, segments, kColumns]
  Summary* summaries;             // [bound, strips]

  __device__ int count() const { return live_rows(live, bound); }
  __device__ Changes* changes_of(int e, int strip) const {
    return changes + (static_cast<std::int64_t>(e) * strips + strip) * segments * kColumns;
  }
  __device__ Summary* summaries_of(int e) const { return summaries + static_cast<std::int64_t>(e) * strips; }
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

// What a warp knows of the rows of its segment, in shared memory.
struct Rows {
  int low;       // row of logits
  float weight;  // of the next
  int next;      // row of the segment that has another `low`, or its end; where `low` is first met
};

struct Mask {
  int height, width;  // of the photo
  const float* map;
  int map_height, map_width;
  Axis x, y;
  float limit;

  __device__ Mask(const Task& task, int e)
      : Mask(task, task.geometry[static_cast<int>(task.boxes[e].image)],
             task.logits + static_cast<std::int64_t>(task.rows[e]) * task.map_height * task.map_width) {}
  __device__ Mask(const Task& task, const GeometryRow& g, const float* logits)
      : height(static_cast<int>(g.height)),
        width(static_cast<int>(g.width)),
        map(logits),
        map_height(task.map_height),
        map_width(task.map_width),
        x(task.map_width, width),
        y(task.map_height, height) {
    const float asked = task.parameters->mask_threshold;
    limit = isnan(asked) ? task.limit : log_rounded(asked / (1 - asked));
  }

  __device__ int strips() const { return (width + kColumns - 1) / kColumns; }
  // A row of logits at a column of the photo.
  __device__ float across(const Tap& column, int row) const {
    const float* const line = map + static_cast<std::int64_t>(row) * map_width;
    return blend(__ldg(line + column.low), __ldg(line + column.high), column.weight);
  }
  __device__ bool inside(int px, int py) const {
    const Tap column = x(px), row = y(py);
    return blend(across(column, row.low), across(column, row.high), row.weight) > limit;
  }

  // The rows of a segment, by all lanes of a warp.
  __device__ void prepare(int begin, int end, Rows* rows) const {
    __syncwarp();
    for (int i = lane_of_thread(); i < end - begin; i += 32) {
      const Tap row = y(begin + i);
      rows[i].low = row.low, rows[i].weight = row.weight;
    }
    __syncwarp();
    for (int i = lane_of_thread(); i < end - begin; i += 32) {
      int next = i + 1;
      while (next < end - begin && rows[next].low == rows[i].low) ++next;
      rows[i].next = next;
    }
    __syncwarp();
  }

  // Calls change(row) for each pixel of rows [begin, end) of a column that differs from the one before it;
  // outside the photo there is no mask. `rows`: of prepare().
  template <class F>
  __device__ void walk(int px, int begin, int end, const Rows* rows, F&& change) const {
    bool before = false;
    if (begin > 0)
      before = inside(px, begin - 1);
    else if (px > 0)
      before = inside(px - 1, height - 1);
    const Tap column = x(px);
    int held = -1;
    float low = 0, high = 0;
    const auto turn = [&](bool now, int i) {
      if (now != before) change(begin + i);
      before = now;
    };
    for (int i = 0; i < end - begin;) {
      const int row = rows[i].low, next = rows[i].next;
      low = held >= 0 && row == held + 1 ? high : across(column, row);
      high = row + 1 < map_height ? across(column, row + 1) : low;
      held = row;
      // What a blend may round is less than this.
      const float slack = 1e-6f * (fabsf(low) + fabsf(high));
      const float least = fminf(low, high) - slack, most = fmaxf(low, high) + slack;
      if (least > limit) {
        turn(true, i);
      } else if (most < limit) {
        turn(false, i);
      } else {
        for (int k = i; k < next; ++k) turn(blend(low, high, rows[k].weight) > limit, k);
      }
      i = next;
    }
  }
};

// A block a strip of a mask, a warp some of its segments.
__global__ void __launch_bounds__(kBlock) count_changes(const __grid_constant__ Task task) {
  const int strip = static_cast<int>(blockIdx.x), e = static_cast<int>(blockIdx.y);
  if (e >= task.count()) return;
  const Mask mask(task, e);
  if (strip >= mask.strips()) return;
  __shared__ int runs;
  __shared__ unsigned last;
  __shared__ Rows rows[kWarps][kMostSegment];
  if (threadIdx.x == 0) runs = 0, last = 0;
  __syncthreads();
  const int px = strip * kColumns + lane_of_thread();
  for (int s = warp_of_thread(); s < task.segments; s += kWarps) {
    const int begin = s * task.segment, end = min(begin + task.segment, mask.height);
    int count = 0, latest = 0;
    mask.prepare(begin, end, rows[warp_of_thread()]);
    if (begin < end && px < mask.width)
      mask.walk(px, begin, end, rows[warp_of_thread()], [&](int py) { ++count, latest = py; });
    task.changes_of(e, strip)[s * kColumns + lane_of_thread()] = {
        static_cast<std::uint8_t>(count), static_cast<std::uint8_t>(count > 0 ? latest - begin : 0)};
    if (count == 0) continue;
    atomicAdd(&runs, count);
    atomicMax(&last,
              static_cast<unsigned>(px) * static_cast<unsigned>(mask.height) + static_cast<unsigned>(latest));
  }
  __syncthreads();
  if (threadIdx.x == 0) task.summaries_of(e)[strip] = {runs, last};
}

// The join of those of the threads before this one in the warp, from `first` on; *total: of all.
__device__ Summary warp_exclusive(const Summary& own, const Summary& first, Summary* total) {
  const int lane = lane_of_thread();
  Summary sum = own;
  for (int step = 1; step < 32; step *= 2) {
    const Summary before{__shfl_up_sync(kAll, sum.runs, step), __shfl_up_sync(kAll, sum.last, step)};
    if (lane >= step) sum = joined(before, sum);
  }
  Summary earlier{__shfl_up_sync(kAll, sum.runs, 1), __shfl_up_sync(kAll, sum.last, 1)};
  if (lane == 0) earlier = {0, 0};
  *total = joined(first, {__shfl_sync(kAll, sum.runs, 31), __shfl_sync(kAll, sum.last, 31)});
  return joined(first, earlier);
}

// Within masks by a warp each, over masks by all threads; then the last run of each mask.
__global__ void __launch_bounds__(kScanThreads)
    add_runs(const __grid_constant__ Task task, unsigned* last_runs, int* ends, unsigned* runs, int* rows,
             int capacity) {
  const int lane = lane_of_thread(), count = task.count();
  for (int e = warp_of_thread(); e < count; e += kScanThreads / 32) {
    const Mask mask(task, e);
    Summary before{0, 0};
    for (int first = 0; first < mask.strips(); first += 32) {
      Summary* const at = task.summaries_of(e) + first + lane;
      const bool there = first + lane < mask.strips();
      const Summary own = there ? *at : Summary{0, 0};
      Summary total;
      const Summary mine = warp_exclusive(own, before, &total);
      if (there) *at = mine;
      before = total;
    }
    if (lane == 0) {
      ends[e] = before.runs + 1;
      last_runs[e] = static_cast<unsigned>(mask.height) * static_cast<unsigned>(mask.width) - before.last;
    }
  }
  close_masks(count, ends, last_runs, runs, rows, capacity);
}

__global__ void __launch_bounds__(kBlock) write_runs(const __grid_constant__ Task task, const int* ends,
                                                     unsigned* runs, const int* rows, int capacity) {
  extern __shared__ Summary places[];  // [segments, kColumns]: what comes before each segment
  __shared__ Rows segment[kWarps][kMostSegment];
  const int strip = static_cast<int>(blockIdx.x), e = static_cast<int>(blockIdx.y);
  if (e >= task.count() || *rows > capacity) return;
  const Mask mask(task, e);
  if (strip >= mask.strips()) return;
  const auto height = static_cast<unsigned>(mask.height);
  const Changes* const changes = task.changes_of(e, strip);
  const int lane = lane_of_thread(), px = strip * kColumns + lane;
  if (warp_of_thread() == 0) {  // a lane a column
    const auto summary = [&](int s) -> Summary {
      const Changes own = changes[s * kColumns + lane];
      if (own.count == 0) return {0, 0};
      return {own.count,
              static_cast<unsigned>(px) * height + static_cast<unsigned>(s * task.segment + own.last)};
    };
    Summary column{0, 0}, total;
    for (int s = 0; s < task.segments; ++s) column = joined(column, summary(s));
    Summary before = warp_exclusive(column, task.summaries_of(e)[strip], &total);
    for (int s = 0; s < task.segments; ++s) {
      places[s * kColumns + lane] = before;
      before = joined(before, summary(s));
    }
  }
  __syncthreads();
  unsigned* const mask_runs = runs + (e > 0 ? ends[e - 1] : 0);
  for (int s = warp_of_thread(); s < task.segments; s += kWarps) {
    const bool any = changes[s * kColumns + lane].count > 0;
    if (!__any_sync(kAll, any)) continue;
    const int begin = s * task.segment, end = min(begin + task.segment, mask.height);
    mask.prepare(begin, end, segment[warp_of_thread()]);
    if (!any) continue;
    const Summary place = places[s * kColumns + lane];
    unsigned* run = mask_runs + place.runs;
    unsigned last = place.last;
    mask.walk(px, begin, end, segment[warp_of_thread()], [&](int py) {
      const unsigned at = static_cast<unsigned>(px) * height + static_cast<unsigned>(py);
      *run++ = at - last;
      last = at;
    });
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
    task_.segment = std::max(kLeastSegment, (photos.max_height + kMostSegments - 1) / kMostSegments);
    require(task_.segment <= kMostSegment && task_.bound <= 65535,
            "{}: the GPU takes masks of up to {} rows, and up to 65535 of them", p.node().name,
            kMostSegment * kMostSegments);
    task_.segments = (photos.max_height + task_.segment - 1) / task_.segment;
    task_.strips = (photos.max_width + kColumns - 1) / kColumns;
    strips_ = static_cast<std::size_t>(task_.bound) * static_cast<std::size_t>(task_.strips);
    p.request_scratch(strips_ * (sizeof(Summary) + segments() * sizeof(Changes)) +
                      static_cast<std::size_t>(task_.bound) * sizeof(unsigned));
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
    auto* const last_runs = reinterpret_cast<unsigned*>(task.summaries + strips_);
    task.changes = reinterpret_cast<Changes*>(last_runs + task.bound);
    auto* const runs = run.out(0).as<unsigned>();
    auto* const ends = run.out(1).as<int>();
    int* const rows = run.out(0).rows;
    const auto capacity = static_cast<int>(run.out(0).dims[0]);
    const dim3 grid(static_cast<unsigned>(task.strips), static_cast<unsigned>(task.bound));
    count_changes<<<grid, kBlock, 0, run.stream()>>>(task);
    add_runs<<<1, kScanThreads, 0, run.stream()>>>(task, last_runs, ends, runs, rows, capacity);
    write_runs<<<grid, kBlock, segments() * sizeof(Summary), run.stream()>>>(task, ends, runs, rows,
                                                                             capacity);
    cuda_check_launch("resize_masks");
  }

  std::string detail() const override { return "own"; }

 private:
  // Of a strip.
  std::size_t segments() const { return static_cast<std::size_t>(task_.segments) * kColumns; }

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
