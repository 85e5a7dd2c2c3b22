// Sums of a map's channels over parts of its pixels, for means. Parts follow from the map alone, so that
// results depend on nothing else. In f32 a map is one part, summed in TensorFlow's order as on the CPU
// (cpu/channel_means.h): slower, but what a network makes of another order leaves its bounds.
#pragma once

#include <algorithm>
#include <type_traits>

#include "cuda/packs.cuh"

namespace osprey {

struct MapParts {
  int pixels, channels, each, count;  // `each`: pixels of a part
};

inline MapParts parts_of(const Shape& x, DType type) {
  constexpr std::int64_t kLeastPixels = 512, kMostParts = 256;
  const std::int64_t pixels = x[2] * x[3];
  const std::int64_t each = type == DType::kF32
                                ? std::max(pixels, std::int64_t{1})
                                : std::max(kLeastPixels, (pixels + kMostParts - 1) / kMostParts);
  check(x[0] < 65536, "the means of {} maps", x[0]);
  return {static_cast<int>(pixels), static_cast<int>(x[1]), static_cast<int>(each),
          static_cast<int>((pixels + each - 1) / each)};
}

inline constexpr int kSumPacks = 8, kSumPixels = 32;  // of a block's threads, side by side

// sums[n, part, channel] / divisor. A part for each blockIdx.x, kSumPacks packs of channels for each
// blockIdx.y, an image for each blockIdx.z.
template <class T, class To, int N>
__global__ void __launch_bounds__(kSumPacks* kSumPixels)
    sum_part(MapParts parts, const T* __restrict__ x, To* __restrict__ sums, float divisor, const int* live) {
  const int n = static_cast<int>(blockIdx.z);
  if (live && n >= *live) return;
  const int lane = static_cast<int>(threadIdx.x) % kSumPacks, row = static_cast<int>(threadIdx.x) / kSumPacks;
  const int channel = (static_cast<int>(blockIdx.y) * kSumPacks + lane) * N;
  const int begin = static_cast<int>(blockIdx.x) * parts.each, end = min(begin + parts.each, parts.pixels);
  float sum[N] = {};
  if (channel < parts.channels) {
    const T* from = x + static_cast<std::int64_t>(n) * parts.pixels * parts.channels + channel;
#pragma unroll 4
    for (int p = begin + row; p < end; p += kSumPixels) {
      const auto pack =
          *reinterpret_cast<const Pack<T, N>*>(from + static_cast<std::int64_t>(p) * parts.channels);
#pragma unroll
      for (int k = 0; k < N; ++k) sum[k] += widen(pack.values[k]);
    }
  }
  __shared__ float shared[kSumPixels][kSumPacks][N];
#pragma unroll
  for (int k = 0; k < N; ++k) shared[row][lane][k] = sum[k];
  for (int half = kSumPixels / 2; half > 0; half /= 2) {
    __syncthreads();
    if (row < half)
#pragma unroll
      for (int k = 0; k < N; ++k) shared[row][lane][k] += shared[row + half][lane][k];
  }
  if (row != 0 || channel >= parts.channels) return;
  To* to = sums + (static_cast<std::int64_t>(n) * parts.count + blockIdx.x) * parts.channels + channel;
#pragma unroll
  for (int k = 0; k < N; ++k) to[k] = narrow<To>(shared[0][lane][k] / divisor);
}

inline constexpr int kChains = 4, kLeastChained = 16;  // sums of a channel; pixels, fewer are one sum
inline constexpr int kChainedChannels = 32;            // of a block

// sums[n, channel] / divisor of maps that are one part: four sums take the pixels in turn, a thread each, and
// the first takes those that are left. kChainedChannels for each blockIdx.x, an image for each blockIdx.y.
template <class To>
__global__ void __launch_bounds__(kChainedChannels* kChains)
    sum_chains(MapParts parts, const float* __restrict__ x, To* __restrict__ sums, float divisor,
               const int* live) {
  const int n = static_cast<int>(blockIdx.y);
  if (live && n >= *live) return;
  const int lane = static_cast<int>(threadIdx.x) % kChainedChannels;
  const int chain = static_cast<int>(threadIdx.x) / kChainedChannels;
  const int channel = static_cast<int>(blockIdx.x) * kChainedChannels + lane;
  const float* from = x + static_cast<std::int64_t>(n) * parts.pixels * parts.channels + channel;
  const int chained = parts.pixels < kLeastChained ? 0 : parts.pixels / kChains * kChains;
  float sum = 0;
  if (channel < parts.channels) {
#pragma unroll 32  // loads under way: the sums cannot be split
    for (int p = chain; p < chained; p += kChains) sum += from[static_cast<std::int64_t>(p) * parts.channels];
  }
  __shared__ float shared[kChains][kChainedChannels];
  shared[chain][lane] = sum;
  __syncthreads();
  if (chain != 0 || channel >= parts.channels) return;
  for (int k = 1; k < kChains; ++k) sum += shared[k][lane];
  for (int p = chained; p < parts.pixels; ++p) sum += from[static_cast<std::int64_t>(p) * parts.channels];
  sums[static_cast<std::int64_t>(n) * parts.channels + channel] = narrow<To>(sum / divisor);
}

template <class T, class To>
void launch_sums(const MapParts& parts, const CudaValue& x, To* sums, float divisor, cudaStream_t stream) {
  const auto images = static_cast<unsigned>(x.dims[0]);
  if constexpr (std::is_same_v<T, float>) {
    const dim3 grid(blocks_for(parts.channels, kChainedChannels), images);
    sum_chains<<<grid, kChainedChannels * kChains, 0, stream>>>(parts, x.as<float>(), sums, divisor, x.rows);
  } else {
    with_pack<T>(parts.channels, [&]<int N>() {
      const dim3 grid(static_cast<unsigned>(parts.count), blocks_for(parts.channels / N, kSumPacks), images);
      sum_part<T, To, N>
          <<<grid, kSumPacks * kSumPixels, 0, stream>>>(parts, x.as<T>(), sums, divisor, x.rows);
    });
  }
}

// The mean of a channel from its sums over the parts of map n.
__device__ inline float mean_of(const MapParts& parts, const float* sums, int n, int channel) {
  const float* from = sums + static_cast<std::int64_t>(n) * parts.count * parts.channels + channel;
  float sum = 0;
#pragma unroll 8
  for (int i = 0; i < parts.count; ++i) sum += from[static_cast<std::int64_t>(i) * parts.channels];
  return sum / static_cast<float>(parts.pixels);
}

}  // namespace osprey
