// A warp takes a head of a query. Its lanes first work out a sample each: its share of the softmax and where
// it lies. Then they fetch: some side by side the channels of a pixel, 16 bytes each, and as many pixels at a
// time as that leaves lanes for, each corner of each sample being a pixel.
#include <cmath>

#include "cuda/kernel.h"
#include "cuda/packs.cuh"
#include "ops/deformable_attention.h"

namespace osprey {
namespace {

constexpr unsigned kLanes = 0xffffffffu;
constexpr int kWarps = 4;  // of a block
constexpr int kMostLevels = 8;

struct Level {
  int first, height, width;  // its first row of an image's values
};

template <class T>
struct Job {
  const T* value;
  const float *offsets, *logits, *reference;
  T* y;
  Level levels[kMostLevels];
  int rows, queries, tokens;  // of all images; of an image
  int channels, heads, points, samples;
  int together;  // lanes that fetch a pixel: a power of two
  const int* live;
};

__device__ float warp_most(float v) {
  for (int step = 16; step > 0; step /= 2) v = fmaxf(v, __shfl_xor_sync(kLanes, v, step));
  return v;
}
__device__ float warp_total(float v) {
  for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(kLanes, v, step);
  return v;
}

// Where a sample lies, in pixels of its level, and what it counts.
struct Sample {
  float x, y, share;
  int level;
};

// A corner of a sample: the image's row of values; -1 outside.
struct Corner {
  int token;
  float weight;
};

template <class T>
struct Head {
  const Job<T>& job;
  int query, head;
  const float* logits;

  __device__ Head(const Job<T>& j, int q, int h)
      : job(j),
        query(q),
        head(h),
        logits(j.logits + (static_cast<std::int64_t>(q) * j.heads + h) * j.samples) {}

  __device__ Sample sample(int s, float most, float sum) const {
    if (s >= job.samples) return {0, 0, 0, 0};
    const float* const box = job.reference + static_cast<std::int64_t>(query) * 4;
    const float* const offset =
        job.offsets + ((static_cast<std::int64_t>(query) * job.heads + head) * job.samples + s) * 2;
    const int l = s / job.points;
    const Level& level = job.levels[l];
    const float points = static_cast<float>(job.points);
    const float x = box[0] + offset[0] / points * (box[2] * 0.5f),
                y = box[1] + offset[1] / points * (box[3] * 0.5f);
    return {x * static_cast<float>(level.width) - 0.5f, y * static_cast<float>(level.height) - 0.5f,
            expf(logits[s] - most) / sum, l};
  }

  __device__ Corner corner(const Sample& s, int which) const {
    const Level& level = job.levels[s.level];
    if (!(s.x > -1 && s.y > -1 && s.x < static_cast<float>(level.width) &&
          s.y < static_cast<float>(level.height)))
      return {-1, 0};
    const float left = floorf(s.x), top = floorf(s.y), across = s.x - left, down = s.y - top;
    const int column = static_cast<int>(left) + which % 2, row = static_cast<int>(top) + which / 2;
    if (column < 0 || row < 0 || column >= level.width || row >= level.height) return {-1, 0};
    return {level.first + row * level.width + column,
            s.share * (which % 2 ? across : 1 - across) * (which / 2 ? down : 1 - down)};
  }
};

template <class T, int N>
__global__ void __launch_bounds__(32 * kWarps) attend(const __grid_constant__ Job<T> job) {
  const int item = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x / 32);
  const int query = item / job.heads, lane = static_cast<int>(threadIdx.x % 32);
  if (query >= (job.live ? min(job.rows, *job.live) : job.rows)) return;
  const Head<T> head(job, query, item % job.heads);
  float most = -INFINITY, sum = 0;
  for (int s = lane; s < job.samples; s += 32) most = fmaxf(most, head.logits[s]);
  most = warp_most(most);
  for (int s = lane; s < job.samples; s += 32) sum += expf(head.logits[s] - most);
  sum = warp_total(sum);

  const int size = job.channels / job.heads, packs = size / N, pixels = 32 / job.together;
  const T* const values = job.value +
                          static_cast<std::int64_t>(query / job.queries) * job.tokens * job.channels +
                          head.head * size;
  for (int first_pack = 0; first_pack < packs; first_pack += job.together) {
    const int pack = first_pack + lane % job.together;
    float sums[N] = {};
    for (int base = 0; base < job.samples; base += 32) {
      const Sample own = head.sample(base + lane, most, sum);
      const int corners = 4 * min(32, job.samples - base);
#pragma unroll 4
      for (int first = 0; first < corners; first += pixels) {
        const int i = first + lane / job.together, from = min(i / 4, 31);
        const Sample s{__shfl_sync(kLanes, own.x, from), __shfl_sync(kLanes, own.y, from),
                       __shfl_sync(kLanes, own.share, from), __shfl_sync(kLanes, own.level, from)};
        const Corner corner = i < corners ? head.corner(s, i % 4) : Corner{-1, 0};
        if (corner.token < 0 || pack >= packs) continue;
        const auto v = *reinterpret_cast<const Pack<T, N>*>(
            values + static_cast<std::int64_t>(corner.token) * job.channels + pack * N);
#pragma unroll
        for (int k = 0; k < N; ++k) sums[k] = __fmaf_rn(corner.weight, widen(v.values[k]), sums[k]);
      }
    }
    for (int step = job.together; step < 32; step *= 2)
#pragma unroll
      for (int k = 0; k < N; ++k) sums[k] += __shfl_xor_sync(kLanes, sums[k], step);
    if (lane >= job.together || pack >= packs) continue;
    Pack<T, N> out;
#pragma unroll
    for (int k = 0; k < N; ++k) out.values[k] = narrow<T>(sums[k]);
    *reinterpret_cast<Pack<T, N>*>(job.y + static_cast<std::int64_t>(query) * job.channels +
                                   head.head * size + pack * N) = out;
  }
}

class DeformableAttentionStep final : public CudaStep {
 public:
  explicit DeformableAttentionStep(CudaPrepare& p) : op_(p.op<DeformableAttention>()) {
    require(op_.levels() <= kMostLevels, "{}: {} levels, the GPU takes up to {}", p.node().name, op_.levels(),
            kMostLevels);
    std::int64_t tokens = 0;
    for (std::size_t l = 0; l < op_.sizes.size(); l += 2) {
      levels_[l / 2] = {static_cast<int>(tokens), op_.sizes[l], op_.sizes[l + 1]};
      tokens += std::int64_t{op_.sizes[l]} * op_.sizes[l + 1];
    }
    require(tokens <= INT_MAX && p.output(0).dims[0] * op_.heads <= INT_MAX,
            "{}: {} queries of {} tokens are more than the GPU takes", p.node().name, p.output(0).dims[0],
            tokens);
    tokens_ = static_cast<int>(tokens);
  }

  void launch(CudaRun& run) override {
    const CudaValue& y = run.out(0);
    if (y.dims[0] == 0) return;
    with_float_type(y.dtype, [&](auto zero) {
      using T = decltype(zero);
      with_pack<T>(y.dims[1] / op_.heads, [&]<int N>() { launch_packs_of<T, N>(run); });
    });
    cuda_check_launch("deformable_attention");
  }

  std::string detail() const override { return "own"; }

 private:
  template <class T, int N>
  void launch_packs_of(CudaRun& run) const {
    const CudaValue& y = run.out(0);
    Job<T> job{.value = run.in(0).as<T>(),
               .offsets = run.in(1).as<float>(),
               .logits = run.in(2).as<float>(),
               .reference = run.in(3).as<float>(),
               .y = y.as<T>(),
               .levels = {},
               .rows = static_cast<int>(y.dims[0]),
               .queries = op_.queries,
               .tokens = tokens_,
               .channels = static_cast<int>(y.dims[1]),
               .heads = op_.heads,
               .points = op_.points,
               .samples = static_cast<int>(op_.samples()),
               .together = 1,
               .live = y.rows};
    std::copy(std::begin(levels_), std::end(levels_), job.levels);
    while (job.together < 32 && job.together < job.channels / job.heads / N) job.together *= 2;
    attend<T, N><<<blocks_for(y.dims[0] * op_.heads, kWarps), 32 * kWarps, 0, run.stream()>>>(job);
  }

  const DeformableAttention op_;
  Level levels_[kMostLevels] = {};
  int tokens_ = 0;  // of an image
};

}  // namespace

CudaKernel deformable_attention_cuda() {
  return {.op = &kOpInfo<DeformableAttention>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare = [](CudaPrepare& p) -> std::unique_ptr<CudaStep> {
            return std::make_unique<DeformableAttentionStep>(p);
          }};
}

}  // namespace osprey
