// A block makes the gates of a few channels, and scales the weights of those. Every block computes the hidden
// layer anew, which is quicker than another launch, or than waiting for other blocks. What does not depend on
// the sums is read first. The order of every sum follows from the layers alone, not from the division.
#include "cuda/gated_weights.h"

#include "cuda/activations.cuh"
#include "cuda/channel_sums.cuh"
#include "cuda/check.h"
#include "cuda/early_launch.cuh"
#include "cuda/packs.cuh"

namespace osprey {
namespace {

constexpr int kThreads = 512, kWarps = kThreads / 32;
constexpr int kGroup = 32, kShares = kThreads / kGroup;  // channels whose gates are made side by side
constexpr int kEarly = 4;  // weights of a gate that a thread reads before it knows the hidden layer
constexpr int kPacks = 4;  // of the convolution's weights, as well
constexpr int kManyGroups = 4;
constexpr std::int64_t kMostRead = 24 << 20;  // bytes of the first layer by blocks of one group
constexpr std::size_t kMostShared = 32 << 10;

template <class T>
struct Job {
  GatesShape shape;
  GatesMemory memory;
  const T *squeeze, *expand, *weights;
  T* gated;
  unsigned slices;  // blocks of an image
};

// The dot products of a warp's rows of the first layer and the means.
template <class T, int N>
__device__ void squeeze_rows(const Job<T>& job, const float* means, float* hidden) {
  constexpr int kTogether = 4;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int rows = job.shape.hidden, channels = job.shape.channels;
  for (int base = warp; base < rows; base += kTogether * kWarps) {
    float sums[kTogether] = {};
#pragma unroll 4
    for (int c = lane * N; c < channels; c += 32 * N) {
      const auto mean = *reinterpret_cast<const Pack<float, N>*>(means + c);
#pragma unroll
      for (int r = 0; r < kTogether; ++r) {
        const int row = base + r * kWarps;
        if (row >= rows) continue;
        const auto w =
            *reinterpret_cast<const Pack<T, N>*>(job.squeeze + static_cast<std::int64_t>(row) * channels + c);
#pragma unroll
        for (int k = 0; k < N; ++k) sums[r] = __fmaf_rn(widen(w.values[k]), mean.values[k], sums[r]);
      }
    }
#pragma unroll
    for (int r = 0; r < kTogether; ++r) {
      const int row = base + r * kWarps;
#pragma unroll
      for (int other = 16; other > 0; other /= 2) sums[r] += __shfl_xor_sync(0xffffffffu, sums[r], other);
      if (row < rows && lane == 0)
        hidden[row] = activate(job.shape.activation, sums[r] + job.memory.squeeze_bias[row]);
    }
  }
}

template <class T, int N>
__device__ Pack<T, N> times(const Pack<T, N>& values, const float* gates) {
  Pack<T, N> out;
#pragma unroll
  for (int k = 0; k < N; ++k) out.values[k] = narrow<T>(widen(values.values[k]) * gates[k]);
  return out;
}

// kGroups groups of channels of an image for each block.
template <class T, int N, int kGroups>
__global__ void __launch_bounds__(kThreads, 1) gate_weights(const __grid_constant__ Job<T> job) {
  constexpr int kChannels = kGroups * kGroup;
  extern __shared__ float4 memory[];
  __shared__ float parts[kShares][kChannels];
  __shared__ alignas(16) float gates[kChannels];
  __shared__ bool last;
  const int thread = static_cast<int>(threadIdx.x), n = static_cast<int>(blockIdx.x / job.slices);
  const int all = job.shape.channels, hidden_count = job.shape.hidden;
  float* const means = reinterpret_cast<float*>(memory);  // [all]
  float* const hidden = means + (all + 3) / 4 * 4;        // [hidden_count]
  const int first = static_cast<int>(blockIdx.x % job.slices) * kChannels,
            channels = min(kChannels, all - first);
  const int mine = thread % kGroup, share = thread / kGroup;

  // Weights of the convolution, in packs.
  const int packs = channels / N, count = packs * job.shape.outputs;
  const auto place = [&](int i) {
    const int row = i / packs;
    return static_cast<std::int64_t>(row) * all + first + (i - row * packs) * N;
  };
  Pack<T, N> held[kPacks];
#pragma unroll
  for (int k = 0; k < kPacks; ++k)
    if (const int i = thread + k * kThreads; i < count)
      held[k] = *reinterpret_cast<const Pack<T, N>*>(job.weights + place(i));

  // Weights of the gates.
  const auto is_mine = [&](int g) { return g * kGroup + mine < channels; };
  const auto expand = [&](int h, int g) {
    return job.expand[static_cast<std::int64_t>(h) * all + first + g * kGroup + mine];
  };
  T early[kGroups][kEarly];
#pragma unroll
  for (int g = 0; g < kGroups; ++g)
#pragma unroll
    for (int e = 0; e < kEarly; ++e)
      if (const int h = share + e * kShares; h < hidden_count && is_mine(g)) early[g][e] = expand(h, g);

  await_launch_before();
  long long* const sums = job.memory.sums + static_cast<std::int64_t>(n) * all;
  for (int c = thread; c < all; c += kThreads) means[c] = channel_sums::mean_of(sums[c], job.shape.pixels);
  __syncthreads();
  if (thread == 0) last = atomicInc(job.memory.readers + n, job.slices - 1) == job.slices - 1;
  squeeze_rows<T, N>(job, means, hidden);
  __syncthreads();
  if (last)
    for (int c = thread; c < all; c += kThreads) sums[c] = 0;
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    float sum = 0;
    if (is_mine(g)) {
#pragma unroll
      for (int e = 0; e < kEarly; ++e)
        if (const int h = share + e * kShares; h < hidden_count)
          sum = __fmaf_rn(widen(early[g][e]), hidden[h], sum);
#pragma unroll 4
      for (int h = share + kEarly * kShares; h < hidden_count; h += kShares)
        sum = __fmaf_rn(widen(expand(h, g)), hidden[h], sum);
    }
    parts[share][g * kGroup + mine] = sum;
  }
  __syncthreads();
  if (thread < channels) {
    float sum = job.memory.expand_bias[first + thread];
#pragma unroll
    for (int s = 0; s < kShares; ++s) sum += parts[s][thread];
    gates[thread] = sigmoid(sum);
    job.memory.gates[static_cast<std::int64_t>(n) * all + first + thread] = gates[thread];
  }
  __syncthreads();

  T* const gated = job.gated + static_cast<std::int64_t>(n) * job.shape.outputs * all;
  const auto scale = [&](int i, const Pack<T, N>& weights) {
    *reinterpret_cast<Pack<T, N>*>(gated + place(i)) = times<T, N>(weights, gates + i % packs * N);
  };
#pragma unroll
  for (int k = 0; k < kPacks; ++k)
    if (const int i = thread + k * kThreads; i < count) scale(i, held[k]);
#pragma unroll 4
  for (int i = thread + kPacks * kThreads; i < count; i += kThreads)
    scale(i, *reinterpret_cast<const Pack<T, N>*>(job.weights + place(i)));
}

template <class T, int N>
__global__ void gate_map(const float* gates, const T* x, T* y, std::int64_t packs_of_image,
                         int packs_of_pixel, std::int64_t packs) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= packs) return;
  const float* const gate = gates + (i / packs_of_image * packs_of_pixel + i % packs_of_pixel) * N;
  reinterpret_cast<Pack<T, N>*>(y)[i] = times<T, N>(reinterpret_cast<const Pack<T, N>*>(x)[i], gate);
}

std::size_t shared_bytes(const GatesShape& shape) {
  return static_cast<std::size_t>((shape.channels + 3) / 4 * 4 + shape.hidden) * sizeof(float);
}

}  // namespace

bool gates_weights(const GatesShape& shape) {
  return shape.channels > 0 && shape.hidden > 0 && shape.pixels > 0 && shared_bytes(shape) <= kMostShared;
}

void launch_gated_weights(const GatesShape& shape, const GatesMemory& memory, std::int64_t images,
                          cudaStream_t stream) {
  if (images == 0) return;
  const std::int64_t groups = blocks_for(shape.channels, kGroup);
  const std::int64_t read =
      images * groups * shape.channels * shape.hidden * static_cast<std::int64_t>(size_of(shape.type));
  with_float_type(shape.type, [&](auto zero) {
    using T = decltype(zero);
    Job<T> job{.shape = shape,
               .memory = memory,
               .squeeze = static_cast<const T*>(memory.squeeze),
               .expand = static_cast<const T*>(memory.expand),
               .weights = static_cast<const T*>(memory.weights),
               .gated = static_cast<T*>(memory.gated),
               .slices = 0};
    with_pack<T>(shape.channels, [&]<int N>() {
      const auto launch = [&]<int kGroups>() {
        job.slices = blocks_for(groups, kGroups);
        launch_early(gate_weights<T, N, kGroups>,
                     {.blocks = job.slices * static_cast<unsigned>(images),
                      .threads = kThreads,
                      .shared_bytes = static_cast<int>(shared_bytes(shape)),
                      .early = shape.early,
                      .stream = stream},
                     job);
      };
      read > kMostRead ? launch.template operator()<kManyGroups>() : launch.template operator()<1>();
    });
  });
}

void launch_gated_map(const GatesShape& shape, const float* gates, const void* x, void* y,
                      std::int64_t images, cudaStream_t stream) {
  with_float_type(shape.type, [&](auto zero) {
    using T = decltype(zero);
    with_pack<T>(shape.channels, [&]<int N>() {
      const std::int64_t of_image = static_cast<std::int64_t>(shape.pixels) * (shape.channels / N);
      if (images * of_image == 0) return;
      gate_map<T, N><<<blocks_for(images * of_image), kBlock, 0, stream>>>(
          gates, static_cast<const T*>(x), static_cast<T*>(y), of_image, shape.channels / N,
          images * of_image);
    });
  });
  cuda_check_launch("gated map");
}

}  // namespace osprey
