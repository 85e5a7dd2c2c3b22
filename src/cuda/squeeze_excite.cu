// Two launches: sums of the channels, then blocks that each make the gates of a few channels and scale those.
// Every block computes the hidden layer anew, which is quicker than another launch; where it is large, one
// more launch computes it once.
#include <algorithm>

#include "cuda/activations.cuh"
#include "cuda/channel_sums.cuh"
#include "cuda/packed_weights.h"
#include "ops/squeeze_excite.h"

namespace osprey {
namespace {

constexpr int kWarps = kBlock / 32, kSliceChannels = 64;
constexpr std::int64_t kMostShared = 48 << 10, kMostRepeated = 1 << 15;

template <class T>
struct Layers {
  const T *squeeze, *expand;  // [hidden, channels], [channels, hidden]
  const float *squeeze_bias, *expand_bias;
  int channels, hidden;
  Activation activation;
};

// The dot product of two rows, for all lanes of a warp.
template <class T>
__device__ float warp_dot(const T* weights, const float* x, int count) {
  float sum = 0;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x) % 32; i < count; i += 32)
    sum = __fmaf_rn(widen(weights[i]), x[i], sum);
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  return sum;
}

// means[channels], in shared memory, from the sums; a barrier must follow.
__device__ void load_means(float* means, const MapParts& parts, const float* sums, int n) {
  for (int c = static_cast<int>(threadIdx.x); c < parts.channels; c += kBlock)
    means[c] = mean_of(parts, sums, n, c);
}

template <class T>
__device__ float hidden_of(const Layers<T>& layers, const float* means, int i) {
  const float dot =
      warp_dot(layers.squeeze + static_cast<std::int64_t>(i) * layers.channels, means, layers.channels);
  return activate(layers.activation, dot + layers.squeeze_bias[i]);
}

// An output of the first layer for each warp, an image for each blockIdx.y.
template <class T>
__global__ void __launch_bounds__(kBlock)
    squeeze(MapParts parts, Layers<T> layers, const float* sums, float* hidden, const int* live) {
  extern __shared__ float means[];
  const int n = static_cast<int>(blockIdx.y);
  if (live && n >= *live) return;
  load_means(means, parts, sums, n);
  __syncthreads();
  const int i = static_cast<int>(blockIdx.x * kWarps + threadIdx.x / 32);
  if (i >= layers.hidden) return;
  const float value = hidden_of(layers, means, i);
  if (threadIdx.x % 32 == 0) hidden[static_cast<std::int64_t>(n) * layers.hidden + i] = value;
}

// kSliceChannels channels for each blockIdx.x, `strip` pixels for each blockIdx.y, an image for each
// blockIdx.z. `given`: what squeeze() found, or null.
template <class T, int N>
__global__ void __launch_bounds__(kBlock)
    excite(MapParts parts, Layers<T> layers, const float* sums, const float* given, const T* x, T* y,
           int strip, const int* live) {
  extern __shared__ float shared[];
  __shared__ float gates[kSliceChannels];
  float* const hidden = shared;                 // [layers.hidden]
  float* const means = shared + layers.hidden;  // [layers.channels], without `given`
  const int n = static_cast<int>(blockIdx.z), warp = static_cast<int>(threadIdx.x) / 32;
  if (live && n >= *live) return;
  if (given) {
    for (int i = static_cast<int>(threadIdx.x); i < layers.hidden; i += kBlock)
      hidden[i] = given[static_cast<std::int64_t>(n) * layers.hidden + i];
  } else {
    load_means(means, parts, sums, n);
    __syncthreads();
    for (int i = warp; i < layers.hidden; i += kWarps) {
      const float value = hidden_of(layers, means, i);
      if (threadIdx.x % 32 == 0) hidden[i] = value;
    }
  }
  __syncthreads();
  const int first = static_cast<int>(blockIdx.x) * kSliceChannels;
  const int channels = min(kSliceChannels, layers.channels - first);
  for (int c = warp; c < channels; c += kWarps) {
    const float dot =
        warp_dot(layers.expand + static_cast<std::int64_t>(first + c) * layers.hidden, hidden, layers.hidden);
    if (threadIdx.x % 32 == 0) gates[c] = sigmoid(dot + layers.expand_bias[first + c]);
  }
  __syncthreads();
  const int packs = channels / N, begin = static_cast<int>(blockIdx.y) * strip;
  const int end = min(begin + strip, parts.pixels);
  const std::int64_t map = static_cast<std::int64_t>(n) * parts.pixels * parts.channels + first;
  for (int i = static_cast<int>(threadIdx.x); i < (end - begin) * packs; i += kBlock) {
    const int pixel = i / packs, channel = (i - pixel * packs) * N;
    const std::int64_t at = map + static_cast<std::int64_t>(begin + pixel) * parts.channels + channel;
    auto v = *reinterpret_cast<const Pack<T, N>*>(x + at);
#pragma unroll
    for (int k = 0; k < N; ++k) v.values[k] = narrow<T>(widen(v.values[k]) * gates[channel + k]);
    *reinterpret_cast<Pack<T, N>*>(y + at) = v;
  }
}

class SqueezeExciteStep final : public CudaStep {
 public:
  explicit SqueezeExciteStep(CudaPrepare& p)
      : activation_(p.op<SqueezeExcite>().activation),
        parts_(parts_of(p.input(0).dims, p.input(0).dtype)),
        hidden_(static_cast<int>(p.input(1).dims[0])) {
    const std::int64_t images = p.input(0).dims[0], channels = parts_.channels;
    check((channels + hidden_) * static_cast<std::int64_t>(sizeof(float)) <= kMostShared - 1024,
          "squeeze_excite of {} channels", channels);
    separate_ = channels * hidden_ > kMostRepeated;
    sums_ = images * parts_.count * channels;
    p.request_scratch(static_cast<std::size_t>(sums_ + (separate_ ? images * hidden_ : 0)) * sizeof(float));
    const std::int64_t slices = (channels + kSliceChannels - 1) / kSliceChannels;
    const std::int64_t wanted =
        4 * std::int64_t{p.device().multiprocessors} / std::max<std::int64_t>(slices * images, 1);
    strips_ = std::clamp<std::int64_t>(wanted, 1, (parts_.pixels + 31) / 32);
    const DType type = p.input(0).dtype;
    for (const std::size_t i : {1u, 3u}) weights_.push_back(packed_vector(p, i, type));
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
    auto* const sums = reinterpret_cast<float*>(run.scratch());
    float* const hidden = separate_ ? sums + sums_ : nullptr;
    const Layers<T> layers{weights_[0]->template as<T>(),
                           weights_[1]->template as<T>(),
                           weights_[2]->template as<float>(),
                           weights_[3]->template as<float>(),
                           parts_.channels,
                           hidden_,
                           activation_};
    launch_sums<T>(parts_, x, sums, 1.f, run.stream());
    const auto images = static_cast<unsigned>(x.dims[0]);
    const std::size_t means = static_cast<std::size_t>(parts_.channels) * sizeof(float),
                      values = static_cast<std::size_t>(hidden_) * sizeof(float);
    if (separate_)
      squeeze<<<dim3(blocks_for(hidden_, kWarps), images), kBlock, means, run.stream()>>>(
          parts_, layers, sums, hidden, x.rows);
    const int strip = static_cast<int>((parts_.pixels + strips_ - 1) / strips_);
    const dim3 grid(blocks_for(parts_.channels, kSliceChannels), blocks_for(parts_.pixels, strip), images);
    with_pack<T>(parts_.channels, [&]<int N>() {
      excite<T, N><<<grid, kBlock, values + (separate_ ? 0 : means), run.stream()>>>(
          parts_, layers, sums, hidden, x.as<T>(), y.as<T>(), strip, x.rows);
    });
  }

  const Activation activation_;
  const MapParts parts_;
  const int hidden_;
  bool separate_ = false;
  std::int64_t sums_ = 0, strips_ = 1;
  std::vector<std::shared_ptr<const DeviceBuffer>> weights_;  // of the layers, then their biases
};

}  // namespace

CudaKernel squeeze_excite_cuda() {
  return {.op = &kOpInfo<SqueezeExcite>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare = [](CudaPrepare& p) -> std::unique_ptr<CudaStep> {
            return std::make_unique<SqueezeExciteStep>(p);
          },
          .in_place = {0}};
}

}  // namespace osprey
