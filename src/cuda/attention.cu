// In f16 and bf16 with heads of 16, 32 or 64 channels: a block takes 16 queries of a head, each of its warps
// some of the keys, 16 at a time, on the tensor cores. A warp keeps the largest score, the sum of
// exponentials and the weighted values of each query, rescaled as larger scores come (Flash attention, Dao et
// al., 2022); in the end the warps' parts are joined.
//
// Nothing is staged in shared memory: which channel an index of a product's depth means, which key one of its
// columns, is free as long as both operands agree. So each lane takes channels that lie together.
//
// Everything else, and f32, in plain arithmetic: a block holds the scores of its queries in shared memory.
#include <cmath>

#include "cuda/kernel.h"
#include "cuda/packs.cuh"
#include "cuda/tensor_core.cuh"
#include "ops/attention.h"

namespace osprey {
namespace {

using namespace cuda;

constexpr unsigned kLanes = 0xffffffffu;

template <class T>
struct Job {
  const T *query_key, *value;
  T* y;
  int tokens, width;  // of an image; of a row
  int size;           // channels of a head
  float scale;

  // Of a token of this block's image: channels of this block's head.
  __device__ std::int64_t token(int t) const {
    return static_cast<std::int64_t>(blockIdx.z) * tokens + min(t, tokens - 1);
  }
  __device__ int channel() const { return static_cast<int>(blockIdx.y) * size; }
  __device__ const T* query(int t) const { return query_key + token(t) * 2 * width + channel(); }
  __device__ const T* key(int t) const { return query(t) + width; }
  __device__ const T* values(int t) const { return value + token(t) * width + channel(); }
};

namespace tensor_cores {

constexpr int kQueries = 16, kKeys = 16;  // of a tile
constexpr int kWarps = 8;

// kCount elements as words, read at once.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Words {
  unsigned v[kCount / 2];
};
template <int kCount, class T>
__device__ Words<T, kCount> read_words(const T* from) {
  return *reinterpret_cast<const Words<T, kCount>*>(from);
}

// What a warp has of 16 queries; a lane of queries g and g + 8.
template <int D>
struct Part {
  float most[2] = {-INFINITY, -INFINITY}, sum[2] = {};
  float mixed[D / 8][4] = {};  // value c of step j: channel (D / 8) * column + j (tensor_core.cuh)
};

// The largest of the four lanes that share a query.
__device__ float most_of_four(float v) {
  v = fmaxf(v, __shfl_xor_sync(kLanes, v, 1));
  return fmaxf(v, __shfl_xor_sync(kLanes, v, 2));
}
__device__ float sum_of_four(float v) {
  v += __shfl_xor_sync(kLanes, v, 1);
  return v + __shfl_xor_sync(kLanes, v, 2);
}

// Depth step s of D / 16: lane t has channels 4s..4s+3 of those that it reads, D / 4 from D / 4 * t on.
template <class T, int D>
struct Attend {
  static constexpr int kEach = D / 4, kSteps = D / 16, kColumns = D / 8;
  using ChannelWords = Words<T, kEach>;

  const Job<T>& job;
  int g = static_cast<int>(threadIdx.x % 32) / 4, t = static_cast<int>(threadIdx.x % 4);

  __device__ void scores(const ChannelWords (&queries)[2], int key, float (&out)[4]) const {
    const auto keys = read_words<kEach>(job.key(key + g) + t * kEach);
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      const unsigned a[4] = {queries[0].v[2 * s], queries[1].v[2 * s], queries[0].v[2 * s + 1],
                             queries[1].v[2 * s + 1]};
      multiply_add<T>(out, a, {keys.v[2 * s], keys.v[2 * s + 1]});
    }
  }

  // Takes in keys [first, first + kKeys).
  __device__ void take(const ChannelWords (&queries)[2], int first, Part<D>& part) const {
    // Lane t multiplies the values of keys 2t, 2t + 1, 2t + 8, 2t + 9, channels kColumns * g and on.
    Words<T, kColumns> values[4];
#pragma unroll
    for (int k = 0; k < 4; ++k)
      values[k] = read_words<kColumns>(job.values(first + 2 * t + k % 2 + k / 2 * 8) + g * kColumns);
    float tiles[2][4] = {};
    scores(queries, first, tiles[0]);
    scores(queries, first + 8, tiles[1]);
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (first + i / 4 * 8 + 2 * t + i % 2 >= job.tokens) tiles[i / 4][i % 4] = -INFINITY;
#pragma unroll
    for (int r = 0; r < 2; ++r) rescale(tiles, r, part);
    const unsigned shares[4] = {packed<T>(tiles[0][0], tiles[0][1]), packed<T>(tiles[0][2], tiles[0][3]),
                                packed<T>(tiles[1][0], tiles[1][1]), packed<T>(tiles[1][2], tiles[1][3])};
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      const unsigned which = j % 2 == 0 ? 0x5410 : 0x7632;
      multiply_add<T>(part.mixed[j], shares,
                      {__byte_perm(values[0].v[j / 2], values[1].v[j / 2], which),
                       __byte_perm(values[2].v[j / 2], values[3].v[j / 2], which)});
    }
  }

  // Scores of query r of the lane become shares, relative to its largest score so far.
  __device__ void rescale(float (&tiles)[2][4], int r, Part<D>& part) const {
    const float here =
        fmaxf(fmaxf(tiles[0][2 * r], tiles[0][2 * r + 1]), fmaxf(tiles[1][2 * r], tiles[1][2 * r + 1]));
    const float most = fmaxf(part.most[r], most_of_four(here));
    const float factor = __expf((part.most[r] - most) * job.scale);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float& v = tiles[i / 2][2 * r + i % 2];
      sum += v = __expf((v - most) * job.scale);
    }
    part.sum[r] = part.sum[r] * factor + sum;
    part.most[r] = most;
#pragma unroll
    for (int j = 0; j < kColumns; ++j) part.mixed[j][2 * r] *= factor, part.mixed[j][2 * r + 1] *= factor;
  }
};

template <class T, int D>
__global__ void __launch_bounds__(32 * kWarps) attend(const __grid_constant__ Job<T> job) {
  using Warp = Attend<T, D>;
  __shared__ float most[kWarps][kQueries], sums[kWarps][kQueries];
  __shared__ float mixed[kWarps][kQueries][D + 1];
  const Warp warp{job};
  const int w = static_cast<int>(threadIdx.x / 32), first = static_cast<int>(blockIdx.x) * kQueries;
  const typename Warp::ChannelWords queries[2] = {
      read_words<Warp::kEach>(job.query(first + warp.g) + warp.t * Warp::kEach),
      read_words<Warp::kEach>(job.query(first + warp.g + 8) + warp.t * Warp::kEach)};
  Part<D> part;
  for (int key = w * kKeys; key < job.tokens; key += kWarps * kKeys) warp.take(queries, key, part);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int query = warp.g + 8 * r;
    const float sum = sum_of_four(part.sum[r]);
    if (warp.t == 0) most[w][query] = part.most[r], sums[w][query] = sum;
#pragma unroll
    for (int j = 0; j < Warp::kColumns; ++j) {
      mixed[w][query][Warp::kColumns * 2 * warp.t + j] = part.mixed[j][2 * r];
      mixed[w][query][Warp::kColumns * (2 * warp.t + 1) + j] = part.mixed[j][2 * r + 1];
    }
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kQueries * D; i += 32 * kWarps) {
    const int query = i / D, channel = i % D;
    if (first + query >= job.tokens) return;
    float largest = most[0][query], sum = 0, value = 0;
#pragma unroll
    for (int k = 1; k < kWarps; ++k) largest = fmaxf(largest, most[k][query]);
#pragma unroll
    for (int k = 0; k < kWarps; ++k) {  // a warp without keys has -infinity: its factor is 0
      const float factor = __expf((most[k][query] - largest) * job.scale);
      sum += sums[k][query] * factor;
      value += mixed[k][query][channel] * factor;
    }
    job.y[job.token(first + query) * job.width + job.channel() + channel] = narrow<T>(value / sum);
  }
}

}  // namespace tensor_cores

constexpr int kWarps = kBlock / 32;

__device__ float warp_most(float v) {
  for (int step = 16; step > 0; step /= 2) v = fmaxf(v, __shfl_xor_sync(kLanes, v, step));
  return v;
}
__device__ float warp_total(float v) {
  for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(kLanes, v, step);
  return v;
}

// kQueries queries of a head a block.
template <class T, int kQueries>
__global__ void __launch_bounds__(kBlock) attend_plainly(const __grid_constant__ Job<T> job) {
  extern __shared__ float memory[];
  float* const scores = memory;                           // [kQueries, tokens]
  float* const queries = memory + kQueries * job.tokens;  // [kQueries, size]
  const int first = static_cast<int>(blockIdx.x) * kQueries, thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < kQueries * job.size; i += kBlock)
    queries[i] = widen(job.query(first + i / job.size)[i % job.size]);
  __syncthreads();
  for (int key = thread; key < job.tokens; key += kBlock) {
    const T* const channels = job.key(key);
    float sums[kQueries] = {};
    for (int c = 0; c < job.size; ++c) {
      const float k = widen(channels[c]);
#pragma unroll
      for (int q = 0; q < kQueries; ++q) sums[q] = __fmaf_rn(queries[q * job.size + c], k, sums[q]);
    }
#pragma unroll
    for (int q = 0; q < kQueries; ++q) scores[q * job.tokens + key] = sums[q];
  }
  __syncthreads();
  for (int q = thread / 32; q < kQueries; q += kWarps) {
    float* const row = scores + q * job.tokens;
    float most = -INFINITY, sum = 0;
    for (int i = thread % 32; i < job.tokens; i += 32) most = fmaxf(most, row[i]);
    most = warp_most(most);
    for (int i = thread % 32; i < job.tokens; i += 32) sum += row[i] = expf((row[i] - most) * job.scale);
    sum = warp_total(sum);
    for (int i = thread % 32; i < job.tokens; i += 32) row[i] /= sum;
  }
  __syncthreads();
  for (int i = thread; i < kQueries * job.size; i += kBlock) {
    const int q = i / job.size, c = i % job.size;
    if (first + q >= job.tokens) return;
    const float* const row = scores + q * job.tokens;
    float sum = 0;
    for (int key = 0; key < job.tokens; ++key) sum = __fmaf_rn(row[key], widen(job.values(key)[c]), sum);
    job.y[job.token(first + q) * job.width + job.channel() + c] = narrow<T>(sum);
  }
}

class AttentionStep final : public CudaStep {
 public:
  explicit AttentionStep(CudaPrepare& p)
      : heads_(p.op<Attention>().heads),
        tokens_(p.op<Attention>().tokens),
        width_(static_cast<int>(p.input(1).dims[1])),
        images_(static_cast<int>(p.input(1).dims[0] / tokens_)),
        type_(p.input(0).dtype) {
    require(images_ <= 65535 && heads_ <= 65535, "{}: {} heads of {} images are more than the GPU takes",
            p.node().name, heads_, images_);
    const int size = width_ / heads_;
    fast_ = type_ != DType::kF32 && (size == 16 || size == 32 || size == 64);
    if (!fast_) choose_queries(p);
  }

  void launch(CudaRun& run) override {
    if (images_ == 0) return;
    with_float_type(type_, [&](auto zero) {
      using T = decltype(zero);
      const int size = width_ / heads_;
      const Job<T> job{run.in(0).as<T>(),
                       run.in(1).as<T>(),
                       run.out(0).as<T>(),
                       tokens_,
                       width_,
                       size,
                       1.0f / std::sqrt(static_cast<float>(size))};
      if constexpr (sizeof(T) == 2) {
        if (fast_) return launch_fast(job, run.stream());
      }
      const dim3 grid(blocks_for(tokens_, queries_), static_cast<unsigned>(heads_),
                      static_cast<unsigned>(images_));
      const auto kernel = queries_ == kMostQueries ? attend_plainly<T, kMostQueries> : attend_plainly<T, 1>;
      kernel<<<grid, kBlock, shared_, run.stream()>>>(job);
    });
    cuda_check_launch("attention");
  }

  std::string detail() const override { return fast_ ? "own, tensor cores" : "own"; }
  double flops() const override {
    return 4.0 * static_cast<double>(images_) * static_cast<double>(tokens_) * static_cast<double>(tokens_) *
           static_cast<double>(width_);
  }

 private:
  static constexpr int kMostQueries = 8;

  template <class T>
  void launch_fast(const Job<T>& job, cudaStream_t stream) const {
    using namespace tensor_cores;
    const dim3 grid(blocks_for(tokens_, kQueries), static_cast<unsigned>(heads_),
                    static_cast<unsigned>(images_));
    const auto kernel = job.size == 16 ? attend<T, 16> : job.size == 32 ? attend<T, 32> : attend<T, 64>;
    kernel<<<grid, 32 * tensor_cores::kWarps, 0, stream>>>(job);
  }

  std::size_t shared_bytes(int queries) const {
    return static_cast<std::size_t>(queries) * static_cast<std::size_t>(tokens_ + width_ / heads_) *
           sizeof(float);
  }

  void choose_queries(const CudaPrepare& p) {
    const std::size_t room = p.device().shared_bytes_optin;
    queries_ = shared_bytes(kMostQueries) <= room ? kMostQueries : 1;
    shared_ = shared_bytes(queries_);
    require(shared_ <= room, "{}: {} tokens are more than the GPU takes", p.node().name, tokens_);
    with_float_type(type_, [&](auto zero) {
      using T = decltype(zero);
      for (const void* kernel : {reinterpret_cast<const void*>(attend_plainly<T, kMostQueries>),
                                 reinterpret_cast<const void*>(attend_plainly<T, 1>)})
        cuda_check(
            cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(room)),
            "attention");
    });
  }

  const int heads_, tokens_, width_, images_;
  const DType type_;
  bool fast_ = false;
  int queries_ = 1;
  std::size_t shared_ = 0;
};

}  // namespace

CudaKernel attention_cuda() {
  return {.op = &kOpInfo<Attention>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare = [](CudaPrepare& p) -> std::unique_ptr<CudaStep> {
            return std::make_unique<AttentionStep>(p);
          }};
}

}  // namespace osprey
