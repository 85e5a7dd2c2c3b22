// One block a box, or several that share its rows of bins where boxes are few; all levels in one launch.
//
// As on the CPU (cpu/roi_align.cpp), a block first adds up what the pixels of each axis count in each bin; a
// bin is then the sum over its few pixels, each read once, of the channels of 16 bytes of the result a
// thread. Sums are f32 with fused multiply-add. Rows behind the live ones are not written.
#include <cmath>
#include <type_traits>

#include "cuda/boxes.cuh"
#include "cuda/conversions.cuh"
#include "cuda/numbers.cuh"
#include "cuda/roi_corners.h"
#include "ops/roi_align.h"

namespace osprey {
namespace {

using namespace cuda;

constexpr int kMostLevels = 8;
constexpr int kMostSamples = 1024;  // a side of a bin; only boxes far larger than any map get there
constexpr int kBlocksWanted = 4;    // a multiprocessor

struct Level {
  const void* features;
  int height, width;
  float scale;
  float unit;  // of integers (cuda/conversions.h)
};

struct Job {
  Level levels[kMostLevels];
  int level_count;
  const RoiRow* rois;
  const int* rows;
  int bound, channels, bins, samples;
  bool aligned;
  int first_level, canonical_level;
  float canonical_size, level_epsilon;
  float pixel;       // of inclusive boxes: 1
  int axis_weights;  // room for the weights of an axis
  int bin_rows;      // a block's share
  Storing storing;
  void* out;
};

__device__ int level_of(const Job& job, const Corners& b) {
  const float size = sqrtf(area_of(b, job.pixel)) / job.canonical_size + job.level_epsilon;
  const float level =
      floorf(static_cast<float>(job.canonical_level) + static_cast<float>(log2(static_cast<double>(size)))) -
      static_cast<float>(job.first_level);
  if (!(level > 0)) return 0;  // NaN, too
  return static_cast<int>(fminf(level, static_cast<float>(job.level_count - 1)));
}

// A box along one axis, in feature pixels, and how its bins are sampled.
struct Sampling {
  float start, bin_size;
  int samples, size;  // a bin; of the map

  __device__ Sampling(const Job& job, float low, float high, float scale, int map_size) : size(map_size) {
    const float shift = job.aligned ? 0.5f : 0.0f;
    const float end = high * scale - shift;
    start = low * scale - shift;
    // NaN stays, as with std::max on the CPU.
    const float length = job.aligned ? end - start : end - start < 1.0f ? 1.0f : end - start;
    bin_size = length / static_cast<float>(job.bins);
    samples = job.samples > 0
                  ? job.samples
                  : static_cast<int>(fminf(fmaxf(ceilf(bin_size), 0.0f), static_cast<float>(kMostSamples)));
    if (!isfinite(start) || !isfinite(length)) samples = 0;
  }

  // Calls body(pixel, weight) for the two pixels beside every sample of the bin that lies in the map.
  template <class Body>
  __device__ void each_tap(int bin, Body&& body) const {
    for (int s = 0; s < samples; ++s) {
      float at = start + static_cast<float>(bin) * bin_size +
                 (static_cast<float>(s) + 0.5f) * bin_size / static_cast<float>(samples);
      if (!(at >= -1.0f && at <= static_cast<float>(size))) continue;
      at = fmaxf(at, 0.0f);
      int low = static_cast<int>(at);
      if (low >= size - 1) {
        low = size - 1;
        at = static_cast<float>(low);
      }
      const float above = at - static_cast<float>(low);
      body(low, 1.0f - above);
      if (above > 0) body(low + 1, above);
    }
  }
};

// What the pixels of an axis count in a bin: weights[start] is that of pixel `first`.
struct Share {
  int first, count, start;
};

// Neighbouring channels of a pixel.
template <class T, int kLanes>
struct alignas(sizeof(T) * kLanes) Channels {
  T v[kLanes];
};

template <class T, int kLanes>
__device__ void widen_all(const Channels<T, kLanes>& from, float (&to)[kLanes]) {
  if constexpr (sizeof(T) == 1 && kLanes % 4 == 0) {
    const auto& words = reinterpret_cast<const unsigned(&)[kLanes / 4]>(from);
#pragma unroll
    for (int k = 0; k < kLanes; ++k) to[k] = byte_of<T>(words[k / 4], k % 4);
  } else {
#pragma unroll
    for (int k = 0; k < kLanes; ++k) {
      if constexpr (sizeof(T) == 1)
        to[k] = static_cast<float>(from.v[k]);
      else
        to[k] = widen(from.v[k]);
    }
  }
}

// What the first threads of a block find out about its box for all.
struct Plan {
  int level;
  unsigned outside;  // whether no sample lies in the map
};

// Fills in `plan`, the shares of all bins, those of y and then those of x, and their weights.
__device__ void make_plan(const Job& job, const RoiRow& roi, Plan* plan, Share* shares, float* weights) {
  const int bins = job.bins, threads = static_cast<int>(blockDim.x);
  const auto sampling = [&](const Level& level, bool is_x) {
    return is_x ? Sampling(job, roi.box.x0, roi.box.x1, level.scale, level.width)
                : Sampling(job, roi.box.y0, roi.box.y1, level.scale, level.height);
  };
  for (int i = static_cast<int>(threadIdx.x); i < 2 * bins; i += threads) {
    const int level = level_of(job, roi.box);
    if (i == 0) *plan = {level, 0};
    int first = INT_MAX, last = -1;
    sampling(job.levels[level], i >= bins).each_tap(i % bins, [&](int pixel, float) {
      first = min(first, pixel);
      last = max(last, pixel);
    });
    shares[i] = {last < 0 ? 0 : first, last < 0 ? 0 : last - first + 1, 0};
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < 2 * bins; i += threads) {
    const bool is_x = i >= bins;
    const int base = is_x ? job.axis_weights : 0, first = shares[i].first, count = shares[i].count;
    int start = base;
    for (int earlier = is_x ? bins : 0; earlier < i; ++earlier) start += shares[earlier].count;
    const int used = start + count - base;
    // More than there is room for: only boxes of millions of pixels, whose bins overlap by rounding.
    const bool too_many = used > job.axis_weights, nothing = i % bins == bins - 1 && used == 0;
    if (too_many || nothing) atomicOr(&plan->outside, 1u);
    if (too_many) continue;
    float* const mine = weights + start;
    for (int k = 0; k < count; ++k) mine[k] = 0;
    const Sampling along = sampling(job.levels[plan->level], is_x);
    const float share = 1.0f / static_cast<float>(along.samples);
    along.each_tap(i % bins, [&](int pixel, float weight) { mine[pixel - first] += weight * share; });
    shares[i].start = start;
  }
  __syncthreads();
}

// Adds kCount pixels of each of `rows` rows, which are read together. The strides are in vectors.
template <int kCount, class T, int kLanes>
__device__ void add_pixels(const Channels<T, kLanes>* from, int row, int pixel, int rows,
                           const float* of_rows, const float* of_pixels, float (&sum)[kLanes]) {
  float weights[kCount];
#pragma unroll
  for (int x = 0; x < kCount; ++x) weights[x] = of_pixels[x];
#pragma unroll 1
  for (int y = 0; y < rows; ++y, from += row) {
    Channels<T, kLanes> pixels[kCount];
#pragma unroll
    for (int x = 0; x < kCount; ++x) pixels[x] = from[x * pixel];
    const float weight = of_rows[y];
    float of_row[kLanes];
#pragma unroll
    for (int x = 0; x < kCount; ++x) {
      float wide[kLanes];
      widen_all(pixels[x], wide);
#pragma unroll
      for (int k = 0; k < kLanes; ++k)
        of_row[k] = x == 0 ? weights[0] * wide[k] : __fmaf_rn(weights[x], wide[k], of_row[k]);
    }
#pragma unroll
    for (int k = 0; k < kLanes; ++k) sum[k] = __fmaf_rn(weight, of_row[k], sum[k]);
  }
}

constexpr int kTogether = 6;  // pixels of a row, at most

// blockIdx.x: the box; blockIdx.y: which of its rows of bins. Maps of From, of which integers count in units;
// results of T.
template <class From, class T, int kLanes>
__global__ void align(Job job) {
  extern __shared__ float weights[];  // of y, of x
  using Vector = Channels<From, kLanes>;
  const int r = static_cast<int>(blockIdx.x), bins = job.bins;
  if (r >= live_rows(job.rows, job.bound)) return;
  const RoiRow roi = job.rois[r];
  __shared__ Plan plan;
  auto* const shares = reinterpret_cast<Share*>(weights + 2 * job.axis_weights);
  make_plan(job, roi, &plan, shares, weights);
  const Level& level = job.levels[plan.level];
  const bool inside = plan.outside == 0;

  const int vectors = job.channels / kLanes, row = level.width * vectors;
  const auto* from =
      static_cast<const Vector*>(level.features) + static_cast<std::int64_t>(roi.image) * level.height * row;
  const std::int64_t to = static_cast<std::int64_t>(r) * bins * bins * vectors;
  const int first = static_cast<int>(blockIdx.y) * job.bin_rows * bins * vectors;
  const int end = min(bins, (static_cast<int>(blockIdx.y) + 1) * job.bin_rows) * bins * vectors;
  for (int i = first + static_cast<int>(threadIdx.x); i < end; i += static_cast<int>(blockDim.x)) {
    const int bin = i / vectors, c = i % vectors;
    float sum[kLanes] = {};
    if (inside) {
      const Share ys = shares[bin / bins], xs = shares[bins + bin % bins];
      const Vector* corner = from + ys.first * row + xs.first * vectors + c;
      for (int x = 0; x < xs.count; x += kTogether) {
        const auto add = [&]<int kCount>(std::integral_constant<int, kCount>) {
          add_pixels<kCount>(corner + x * vectors, row, vectors, ys.count, weights + ys.start,
                             weights + xs.start + x, sum);
        };
        switch (min(xs.count - x, kTogether)) {
          case 1:
            add(std::integral_constant<int, 1>());
            break;
          case 2:
            add(std::integral_constant<int, 2>());
            break;
          case 3:
            add(std::integral_constant<int, 3>());
            break;
          case 4:
            add(std::integral_constant<int, 4>());
            break;
          case 5:
            add(std::integral_constant<int, 5>());
            break;
          default:
            add(std::integral_constant<int, kTogether>());
        }
      }
    }
    if constexpr (sizeof(From) == 1)
#pragma unroll
      for (int k = 0; k < kLanes; ++k) sum[k] *= level.unit;
    store_pack<T>(job.storing, sum, job.out, (to + i) * kLanes);
  }
}

class RoiAlignStep final : public CudaStep {
 public:
  explicit RoiAlignStep(CudaPrepare& p)
      : op_(p.op<RoiAlign>()),
        result_(p.graph().value(p.node().outputs[0]).type.dtype),
        storing_(quantization_of(p)) {
    const std::size_t levels = op_.scales.size();
    require(levels <= kMostLevels, "{}: {} levels, the GPU takes up to {}", p.node().name, levels,
            kMostLevels);
    std::int64_t longest = 0;
    for (std::size_t l = 0; l < levels; ++l) {
      const Shape& dims = p.input(l).dims;
      require(dims[1] * dims[2] * dims[3] <= INT_MAX,
              "{}: features of {} elements an image, the GPU takes up to {}", p.node().name,
              dims[1] * dims[2] * dims[3], INT_MAX);
      longest = std::max({longest, dims[2], dims[3]});
      units_.push_back(unit_of(p, l));
    }
    // A bin's samples touch at most its extent and two pixels more; the bins together lie in the map.
    axis_weights_ = static_cast<int>((longest + 3 * op_.out + 3) / 4 * 4);
    shared_ = static_cast<std::size_t>(axis_weights_) * 2 * sizeof(float) +
              static_cast<std::size_t>(op_.out) * 2 * sizeof(Share);
    require(shared_ <= 49152, "{}: {} bins over maps of {} pixels are too many for the GPU", p.node().name,
            op_.out, longest);
    const std::int64_t boxes = std::max<std::int64_t>(p.input(levels).dims[0], 1);
    const std::int64_t blocks =
        (std::int64_t{kBlocksWanted} * p.device().multiprocessors + boxes - 1) / boxes;
    splits_ = static_cast<int>(std::min<std::int64_t>(blocks, op_.out));
    bin_rows_ = (op_.out + splits_ - 1) / splits_;
    splits_ = (op_.out + bin_rows_ - 1) / bin_rows_;
  }

  void launch(CudaRun& run) override {
    with_float_type(result_, [&](auto zero) {
      using T = decltype(zero);
      const DType maps = run.in(0).dtype;
      if constexpr (std::is_same_v<T, __half>) {
        if (maps == DType::kI8) return launch_as<std::int8_t, T>(run);
        if (maps == DType::kU8) return launch_as<std::uint8_t, T>(run);
      }
      launch_as<T, T>(run);
    });
  }

  std::string detail() const override { return "own"; }

 private:
  template <class From, class T>
  void launch_as(CudaRun& run) const {
    constexpr int kLanes = 16 / sizeof(T);
    run.in(0).dims[1] % kLanes == 0 ? launch_lanes<From, T, kLanes>(run) : launch_lanes<From, T, 1>(run);
  }

  template <class From, class T, int kLanes>
  void launch_lanes(CudaRun& run) const {
    const std::size_t levels = op_.scales.size();
    const CudaValue& rois = run.in(levels);
    if (rois.dims[0] == 0 || run.out(0).bytes() == 0) return;
    Job job{.level_count = static_cast<int>(levels),
            .rois = rois.as<RoiRow>(),
            .rows = rois.rows,
            .bound = static_cast<int>(rois.dims[0]),
            .channels = static_cast<int>(run.in(0).dims[1]),
            .bins = op_.out,
            .samples = op_.samples,
            .aligned = op_.aligned,
            .first_level = op_.first_level,
            .canonical_level = op_.canonical_level,
            .canonical_size = op_.canonical_size,
            .level_epsilon = op_.level_epsilon,
            .pixel = inclusive_pixel(op_.inclusive),
            .axis_weights = axis_weights_,
            .bin_rows = bin_rows_,
            .storing = storing_,
            .out = run.out(0).data};
    for (std::size_t l = 0; l < levels; ++l)
      job.levels[l] = {run.in(l).data, static_cast<int>(run.in(l).dims[2]),
                       static_cast<int>(run.in(l).dims[3]), op_.scales[l], units_[l]};
    // With a warp for every column of bins, all have as much to do.
    const unsigned warps = static_cast<unsigned>(op_.out <= 4 ? 2 * op_.out : std::min(op_.out, 16));
    const dim3 grid(static_cast<unsigned>(rois.dims[0]), static_cast<unsigned>(splits_));
    align<From, T, kLanes><<<grid, 32 * warps, shared_, run.stream()>>>(job);
    cuda_check_launch("roi_align");
  }

  RoiAlign op_;
  DType result_;  // before it is quantised
  Storing storing_;
  std::vector<float> units_;
  int axis_weights_ = 0, splits_ = 1, bin_rows_ = 0;
  std::size_t shared_ = 0;
};

}  // namespace

CudaKernel roi_align_cuda() {
  return {.op = &kOpInfo<RoiAlign>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare = [](CudaPrepare& p) -> std::unique_ptr<CudaStep> {
            if (p.op<RoiAlign>().sampling == RoiSampling::kCorners) return roi_corners_step(p);
            return std::make_unique<RoiAlignStep>(p);
          }};
}

}  // namespace osprey
