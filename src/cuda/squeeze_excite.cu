// One launch where a cluster of blocks does it all (cuda/hopper/squeeze_excite.h). Else two: the channels'
// means, then blocks that each make the gates of a few channels and scale those. Every block computes the
// hidden layer anew, which is quicker than another launch; where it is large, one more launch computes it
// once. Sums are split so that their loads are under way together.
#include <algorithm>

#include "cuda/activations.cuh"
#include "cuda/channel_means.cuh"
#include "cuda/conversions.cuh"
#include "cuda/hopper/squeeze_excite.h"
#include "cuda/packed_weights.h"
#include "ops/squeeze_excite.h"

namespace osprey {
namespace {

constexpr int kWarps = kBlock / 32, kSliceChannels = 64, kShares = kBlock / kSliceChannels;
constexpr int kUnderWay = 4;  // packs that a thread has loads under way for
constexpr int kEarly = 12;    // weights of a gate that a thread reads before it knows the hidden layer
constexpr std::int64_t kMostShared = 48 << 10, kMostRepeated = 1 << 15;

template <class T>
struct Layers {
  const T *squeeze, *expand;  // [hidden, channels], [hidden, channels]
  const float *squeeze_bias, *expand_bias;
  int channels, hidden;
  Activation activation;
};

// The dot products of a warp's rows of the first layer and `means`, in shared memory.
// kExact: sums of every 32nd product, added up as a tree; the longer sums of other orders take what
// EfficientDet-D4 makes of them in f32 out of its bounds.
template <class T, int kPack, bool kExact, class Store>
__device__ void squeeze_rows(const Layers<T>& layers, const float* means, int first, int step,
                             Store&& store) {
  constexpr int kTogether = 4, N = kExact ? 1 : kPack;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int base = first; base < layers.hidden; base += kTogether * step) {
    float sums[kTogether] = {}, bias[kTogether];
#pragma unroll
    for (int r = 0; r < kTogether; ++r) {
      const int row = base + r * step;
      bias[r] = row < layers.hidden ? layers.squeeze_bias[row] : 0;
    }
#pragma unroll 2
    for (int c = lane * N; c < layers.channels; c += 32 * N) {
      const auto mean = *reinterpret_cast<const Pack<float, N>*>(means + c);
#pragma unroll
      for (int r = 0; r < kTogether; ++r) {
        const int row = base + r * step;
        if (row >= layers.hidden) continue;
        const auto w = *reinterpret_cast<const Pack<T, N>*>(
            layers.squeeze + static_cast<std::int64_t>(row) * layers.channels + c);
#pragma unroll
        for (int k = 0; k < N; ++k) sums[r] = __fmaf_rn(widen(w.values[k]), mean.values[k], sums[r]);
      }
    }
#pragma unroll
    for (int r = 0; r < kTogether; ++r) {
      const int row = base + r * step;
#pragma unroll
      for (int other = 16; other > 0; other /= 2) sums[r] += __shfl_xor_sync(0xffffffffu, sums[r], other);
      if (row < layers.hidden && lane == 0) store(row, activate(layers.activation, sums[r] + bias[r]));
    }
  }
}

// To shared memory; a barrier must follow.
__device__ void copy_floats(float* to, const float* from, int count) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kBlock) to[i] = from[i];
}

// An output of the first layer for each warp, an image for each blockIdx.y.
template <class T, int N, bool kExact>
__global__ void __launch_bounds__(kBlock)
    squeeze(Layers<T> layers, const float* all_means, float* all_hidden, const int* live) {
  extern __shared__ float4 memory[];
  float* const means = reinterpret_cast<float*>(memory);
  const int n = static_cast<int>(blockIdx.y);
  if (live && n >= *live) return;
  copy_floats(means, all_means + static_cast<std::int64_t>(n) * layers.channels, layers.channels);
  __syncthreads();
  float* const hidden = all_hidden + static_cast<std::int64_t>(n) * layers.hidden;
  squeeze_rows<T, N, kExact>(layers, means, static_cast<int>(blockIdx.x * kWarps + threadIdx.x / 32),
                             static_cast<int>(gridDim.x) * kWarps,
                             [&](int row, float value) { hidden[row] = value; });
}

// The gates of a block's channels. A thread adds up a share of the products of one of them, and has read the
// first weights before the hidden layer is known.
template <class T, bool kExact>
struct Gates {
  const Layers<T>& layers;
  const int first, channels, mine, share;
  T early[kEarly];
  float bias;

  __device__ Gates(const Layers<T>& l, int first_channel, int count)
      : layers(l),
        first(first_channel),
        channels(count),
        mine(static_cast<int>(threadIdx.x) % kSliceChannels),
        share(static_cast<int>(threadIdx.x) / kSliceChannels),
        bias(mine < count ? l.expand_bias[first_channel + mine] : 0) {
#pragma unroll
    for (int e = 0; e < kEarly; ++e)
      early[e] =
          mine < channels && share + e * kShares < layers.hidden ? weight(share + e * kShares) : narrow<T>(0);
  }
  __device__ T weight(int h) const {
    return layers.expand[static_cast<std::int64_t>(h) * layers.channels + first + mine];
  }

  // With barriers.
  __device__ void store(const float* hidden, float* gates) const {
    __shared__ float sums[kShares][kSliceChannels];
    float sum = 0;
#pragma unroll
    for (int e = 0; e < kEarly; ++e)
      if (const int h = share + e * kShares; h < layers.hidden)
        sum = __fmaf_rn(widen(early[e]), hidden[h], sum);
    if (mine < channels)
#pragma unroll 8
      for (int h = share + kEarly * kShares; h < layers.hidden; h += kShares)
        sum = __fmaf_rn(widen(weight(h)), hidden[h], sum);
    sums[share][mine] = sum;
    __syncthreads();
    if (share != 0 || mine >= channels) return;
#pragma unroll
    for (int s = 1; s < kShares; ++s) sum += sums[s][mine];
    gates[mine] = sigmoid(sum + bias);
  }
};

// A warp a gate.
template <class T>
struct Gates<T, true> {
  const Layers<T>& layers;
  const int first, channels;

  __device__ Gates(const Layers<T>& l, int first_channel, int count)
      : layers(l), first(first_channel), channels(count) {}

  __device__ void store(const float* hidden, float* gates) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    for (int c = static_cast<int>(threadIdx.x) / 32; c < channels; c += kWarps) {
      float sum = 0;
      for (int h = lane; h < layers.hidden; h += 32)
        sum = __fmaf_rn(widen(layers.expand[static_cast<std::int64_t>(h) * layers.channels + first + c]),
                        hidden[h], sum);
#pragma unroll
      for (int other = 16; other > 0; other /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, other);
      if (lane == 0) gates[c] = sigmoid(sum + layers.expand_bias[first + c]);
    }
  }
};

// kSliceChannels channels for each blockIdx.x, `strip` pixels for each blockIdx.y, an image for each
// blockIdx.z. `given`: what squeeze() found, or null.
template <class T, int N, bool kExact>
__global__ void __launch_bounds__(kBlock)
    excite(Layers<T> layers, Storing storing, const float* all_means, const float* given, const T* x, void* y,
           int pixels, int strip, const int* live) {
  extern __shared__ float4 memory[];
  __shared__ float gates[kSliceChannels];
  float* const means = reinterpret_cast<float*>(memory);          // [layers.channels], without `given`
  float* const hidden = given ? means : means + layers.channels;  // [layers.hidden]
  const int n = static_cast<int>(blockIdx.z);
  const int first = static_cast<int>(blockIdx.x) * kSliceChannels;
  const int channels = min(kSliceChannels, layers.channels - first), packs = channels / N;
  const int begin = static_cast<int>(blockIdx.y) * strip, end = min(begin + strip, pixels);
  const std::int64_t map = (static_cast<std::int64_t>(n) * pixels + begin) * layers.channels + first;
  const auto place = [&](int i) {
    const int pixel = i / packs;
    return map + static_cast<std::int64_t>(pixel) * layers.channels + (i - pixel * packs) * N;
  };
  const int all = (end - begin) * packs;
  int i = static_cast<int>(threadIdx.x);
  Pack<T, N> v[kUnderWay];  // the first are read while the gates are made
  const auto read = [&] {
#pragma unroll
    for (int u = 0; u < kUnderWay; ++u)
      if (i + u * kBlock < all) v[u] = *reinterpret_cast<const Pack<T, N>*>(x + place(i + u * kBlock));
  };
  const Gates<T, kExact> made(layers, first, channels);
  if (live && n >= *live) return;
  read();
  if (given) {
    copy_floats(hidden, given + static_cast<std::int64_t>(n) * layers.hidden, layers.hidden);
  } else {
    copy_floats(means, all_means + static_cast<std::int64_t>(n) * layers.channels, layers.channels);
    __syncthreads();
    squeeze_rows<T, N, kExact>(layers, means, static_cast<int>(threadIdx.x) / 32, kWarps,
                               [&](int row, float value) { hidden[row] = value; });
  }
  __syncthreads();
  made.store(hidden, gates);
  __syncthreads();
  while (i < all) {
#pragma unroll
    for (int u = 0; u < kUnderWay; ++u) {
      const int at = i + u * kBlock;
      if (at >= all) break;
      const int channel = at % packs * N;
      float scaled[N];
#pragma unroll
      for (int k = 0; k < N; ++k) scaled[k] = widen(v[u].values[k]) * gates[channel + k];
      store_pack<T>(storing, scaled, y, place(at));
    }
    i += kUnderWay * kBlock;
    read();
  }
}

class SqueezeExciteStep final : public CudaStep {
 public:
  explicit SqueezeExciteStep(CudaPrepare& p)
      : activation_(p.op<SqueezeExcite>().activation),
        storing_(quantization_of(p)),
        means_(p, p.input(0).dims, p.input(0).dtype),
        hidden_(static_cast<int>(p.input(1).dims[0])) {
    const MapParts& map = means_.parts();
    const std::int64_t images = p.input(0).dims[0], channels = map.channels;
    check((channels + hidden_) * static_cast<std::int64_t>(sizeof(float)) <= kMostShared - 2048,
          "squeeze_excite of {} channels", channels);
    separate_ = channels * hidden_ > kMostRepeated;
    values_ = images * (channels + (separate_ ? hidden_ : 0));
    p.request_scratch(static_cast<std::size_t>(values_) * sizeof(float) + means_.scratch_bytes());
    const std::int64_t slices = (channels + kSliceChannels - 1) / kSliceChannels;
    const std::int64_t wanted =
        4 * std::int64_t{p.device().multiprocessors} / std::max<std::int64_t>(slices * images, 1);
    strips_ = std::clamp<std::int64_t>(wanted, 1, (map.pixels + 31) / 32);
    const DType type = p.input(0).dtype;
    weights_.push_back(packed_vector(p, 1, type));
    weights_.push_back(packed_weight(p, 3, fmt::format("transposed {}", name_of(type)),
                                     [&](const Tensor& f32) { return as_type(transposed(f32), type); }));
    for (const std::size_t i : {2u, 4u}) weights_.push_back(packed_vector(p, i, DType::kF32));
  }

  void launch(CudaRun& run) override {
    if (element_count(run.out(0).dims) == 0) return;
    with_float_type(run.in(0).dtype, [&](auto zero) { launch_as<decltype(zero)>(run); });
    cuda_check_launch("squeeze_excite");
  }

 private:
  template <class T>
  void launch_as(CudaRun& run) const {
    const CudaValue &x = run.in(0), &y = run.out(0);
    const MapParts& map = means_.parts();
    auto* const means = reinterpret_cast<float*>(run.scratch());
    float* const hidden = separate_ ? means + x.dims[0] * map.channels : nullptr;
    const Layers<T> layers{weights_[0]->template as<T>(),
                           weights_[1]->template as<T>(),
                           weights_[2]->template as<float>(),
                           weights_[3]->template as<float>(),
                           map.channels,
                           hidden_,
                           activation_};
    means_.launch<T>(run, means, reinterpret_cast<std::byte*>(means + values_));
    const auto images = static_cast<unsigned>(x.dims[0]);
    const std::size_t means_bytes = static_cast<std::size_t>(map.channels) * sizeof(float),
                      hidden_bytes = static_cast<std::size_t>(hidden_) * sizeof(float);
    const int strip = static_cast<int>((map.pixels + strips_ - 1) / strips_);
    const dim3 grid(blocks_for(map.channels, kSliceChannels), blocks_for(map.pixels, strip), images);
    const auto launch_both = [&]<int N, bool kExact>() {
      if (separate_)
        squeeze<T, N, kExact>
            <<<dim3(blocks_for(hidden_, kWarps), images), kBlock, means_bytes, run.stream()>>>(
                layers, means, hidden, x.rows);
      excite<T, N, kExact><<<grid, kBlock, hidden_bytes + (separate_ ? 0 : means_bytes), run.stream()>>>(
          layers, storing_, means, hidden, x.as<T>(), y.data, map.pixels, strip, x.rows);
    };
    with_pack<T>(map.channels, [&]<int N>() {
      if constexpr (std::is_same_v<T, float>)
        if (means_.exact()) return launch_both.template operator()<N, true>();
      launch_both.template operator()<N, false>();
    });
  }

  const Activation activation_;
  const Storing storing_;
  const Means means_;
  const int hidden_;
  bool separate_ = false;
  std::int64_t values_ = 0, strips_ = 1;                      // values_: means and hidden ones
  std::vector<std::shared_ptr<const DeviceBuffer>> weights_;  // of the layers, then their biases
};

class SqueezeClusterStep final : public CudaStep {
 public:
  SqueezeClusterStep(CudaPrepare& p, const SqueezedMap& map) : map_(map), quantization_(quantization_of(p)) {
    for (const std::size_t i : {1u, 3u}) weights_.push_back(packed_vector(p, i, map.type));
    for (const std::size_t i : {2u, 4u}) weights_.push_back(packed_vector(p, i, DType::kF32));
  }

  void launch(CudaRun& run) override {
    const SqueezeMemory memory{.x = run.in(0).data,
                               .squeeze = weights_[0]->data(),
                               .expand = weights_[1]->data(),
                               .squeeze_bias = weights_[2]->as<float>(),
                               .expand_bias = weights_[3]->as<float>(),
                               .y = run.out(0).data,
                               .quantization = quantization_,
                               .live = run.in(0).rows};
    launch_squeeze_excite(map_, memory, run.in(0).dims[0], run.stream());
  }
  std::string detail() const override { return "own, a cluster"; }

 private:
  const SqueezedMap map_;
  const Quantize* const quantization_;
  std::vector<std::shared_ptr<const DeviceBuffer>> weights_;  // of the layers, then their biases
};

// f32 keeps the CPU's order of sums, unless it may round to tf32.
std::unique_ptr<CudaStep> squeeze_excite_step(CudaPrepare& p) {
  const CudaValue& x = p.input(0);
  const SqueezedMap map{.type = x.dtype,
                        .pixels = static_cast<int>(x.dims[2] * x.dims[3]),
                        .channels = static_cast<int>(x.dims[1]),
                        .hidden = static_cast<int>(p.input(1).dims[0]),
                        .activation = p.op<SqueezeExcite>().activation};
  if (p.device().major == 9 && (x.dtype != DType::kF32 || p.tf32()) && squeezes_by_cluster(map))
    return std::make_unique<SqueezeClusterStep>(p, map);
  return std::make_unique<SqueezeExciteStep>(p);
}

}  // namespace

CudaKernel squeeze_excite_cuda() {
  return {.op = &kOpInfo<SqueezeExcite>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare = squeeze_excite_step,
          .in_place = {0}};
}

}  // namespace osprey
