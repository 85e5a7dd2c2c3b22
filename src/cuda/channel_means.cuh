// Means of a map's channels. Its pixels are summed in parts; parts follow from the map alone, so that results
// depend on nothing else. The last block that has a part adds them up. In f32, where it may not round to tf32,
// a map is one part, summed in TensorFlow's order as on the CPU (cpu/channel_means.h): slower, but what a
// network makes of another order leaves its bounds.
#pragma once

#include <algorithm>
#include <type_traits>

#include "cuda/check.h"
#include "cuda/device_buffer.h"
#include "cuda/packs.cuh"

namespace osprey {

struct MapParts {
  int pixels, channels, each, count;  // `each`: pixels of a part
};

inline constexpr int kMeanPacks = 8, kMeanRows = 32;  // of a block's threads, side by side
// Of a block whose pixels are few: a thread takes more of them one after the other.
inline constexpr int kFewPixels = 64, kFewRows = 4;

// `exact`: one part.
inline MapParts parts_of(const Shape& x, DType type, bool exact) {
  constexpr std::int64_t kLeastPixels = 2 * kMeanRows, kBlocks = 512;
  const std::int64_t pixels = x[2] * x[3];
  check(x[0] < 65536, "the means of {} maps", x[0]);
  std::int64_t count = 1;
  if (!exact) {
    const auto bytes = static_cast<std::int64_t>(size_of(type));
    const std::int64_t slices = (x[1] * bytes / 16 + kMeanPacks - 1) / kMeanPacks;
    count = std::clamp<std::int64_t>(kBlocks / std::max<std::int64_t>(slices, 1), 1,
                                     std::max<std::int64_t>(pixels / kLeastPixels, 1));
  }
  const std::int64_t each = std::max<std::int64_t>((pixels + count - 1) / count, 1);
  return {static_cast<int>(pixels), static_cast<int>(x[1]), static_cast<int>(each),
          static_cast<int>(std::max<std::int64_t>((pixels + each - 1) / each, 1))};
}

// What the blocks of a step leave for each other.
struct MeanMemory {
  float* sums = nullptr;         // of the parts
  unsigned* finished = nullptr;  // parts of a map's slice of channels; 0 before and after
};

// Of kRows rows of threads, each with its sums, row 0 gets those of all; the order is the same each time.
template <int kPacks, int kRows, int N>
__device__ void add_rows(float (&sum)[N], float (*shared)[kPacks][N], int row, int lane) {
#pragma unroll
  for (int k = 0; k < N; ++k) shared[row][lane][k] = sum[k];
  for (int half = kRows / 2; half > 0; half /= 2) {
    __syncthreads();
    if (row < half)
#pragma unroll
      for (int k = 0; k < N; ++k) shared[row][lane][k] += shared[row + half][lane][k];
  }
#pragma unroll
  for (int k = 0; k < N; ++k) sum[k] = shared[row][lane][k];
}

// means[n, channel]. A part for each blockIdx.x, a slice of packs of channels for each blockIdx.y, an image
// for each blockIdx.z.
template <class T, class To, int N, int kRows>
__global__ void __launch_bounds__(kMeanPacks* kMeanRows)
    find_means(MapParts parts, const T* __restrict__ x, To* __restrict__ means, MeanMemory memory,
               const int* live) {
  constexpr int kPacks = kMeanPacks * kMeanRows / kRows;
  __shared__ float shared[kRows][kPacks][N];
  __shared__ bool last;
  const int n = static_cast<int>(blockIdx.z);
  if (live && n >= *live) return;
  const int lane = static_cast<int>(threadIdx.x) % kPacks, row = static_cast<int>(threadIdx.x) / kPacks;
  const int channel = (static_cast<int>(blockIdx.y) * kPacks + lane) * N;
  const int begin = static_cast<int>(blockIdx.x) * parts.each, end = min(begin + parts.each, parts.pixels);
  float sum[N] = {};
  if (channel < parts.channels) {
    const T* from = x + static_cast<std::int64_t>(n) * parts.pixels * parts.channels + channel;
#pragma unroll 8
    for (int p = begin + row; p < end; p += kRows) {
      const auto pack =
          *reinterpret_cast<const Pack<T, N>*>(from + static_cast<std::int64_t>(p) * parts.channels);
#pragma unroll
      for (int k = 0; k < N; ++k) sum[k] += widen(pack.values[k]);
    }
  }
  add_rows<kPacks, kRows>(sum, shared, row, lane);
  if (parts.count > 1) {
    float* const sums = memory.sums + static_cast<std::int64_t>(n) * parts.count * parts.channels + channel;
    if (row == 0 && channel < parts.channels)
#pragma unroll
      for (int k = 0; k < N; ++k) sums[static_cast<std::int64_t>(blockIdx.x) * parts.channels + k] = sum[k];
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
      unsigned* const finished = memory.finished + n * gridDim.y + blockIdx.y;
      last = atomicAdd(finished, 1u) + 1 == gridDim.x;
      if (last) *finished = 0;
    }
    __syncthreads();
    if (!last) return;
    __threadfence();
#pragma unroll
    for (int k = 0; k < N; ++k) sum[k] = 0;
    if (channel < parts.channels)
#pragma unroll 4
      for (int p = row; p < parts.count; p += kRows)
#pragma unroll
        for (int k = 0; k < N; ++k)
          sum[k] += __ldcg(sums + static_cast<std::int64_t>(p) * parts.channels + k);
    add_rows<kPacks, kRows>(sum, shared, row, lane);
  }
  if (row != 0 || channel >= parts.channels) return;
  To* to = means + static_cast<std::int64_t>(n) * parts.channels + channel;
#pragma unroll
  for (int k = 0; k < N; ++k) to[k] = narrow<To>(sum[k] / static_cast<float>(parts.pixels));
}

inline constexpr int kChains = 4, kLeastChained = 16;  // sums of a channel; pixels, fewer are one sum
inline constexpr int kChainedChannels = 32;            // of a block

// means[n, channel] of maps that are one part: four sums take the pixels in turn, a thread each, and the
// first takes those that are left. kChainedChannels for each blockIdx.x, an image for each blockIdx.y.
template <class To>
__global__ void __launch_bounds__(kChainedChannels* kChains)
    find_chained_means(MapParts parts, const float* __restrict__ x, To* __restrict__ means, const int* live) {
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
  means[static_cast<std::int64_t>(n) * parts.channels + channel] =
      narrow<To>(sum / static_cast<float>(parts.pixels));
}

// Of the maps of a step, whose memory it holds beside its scratch: its input 0.
class Means {
 public:
  Means(const CudaPrepare& p, const Shape& x, DType type)
      : exact_(type == DType::kF32 && !p.tf32()), parts_(parts_of(x, type, exact_)), images_(x[0]) {
    if (parts_.count == 1) return;
    finished_ = DeviceBuffer(kCudaLanes * static_cast<std::size_t>(counts()) * sizeof(unsigned));
    cuda_check(cudaMemsetAsync(finished_.data(), 0, finished_.size(), p.stream()), "means");
  }

  const MapParts& parts() const { return parts_; }
  bool exact() const { return exact_; }
  std::size_t scratch_bytes() const {
    return parts_.count == 1
               ? 0
               : static_cast<std::size_t>(images_ * parts_.count * parts_.channels) * sizeof(float);
  }

  template <class T, class To>
  void launch(CudaRun& run, To* means, std::byte* scratch) const {
    const CudaValue& x = run.in(0);
    const cudaStream_t stream = run.stream();
    const auto images = static_cast<unsigned>(images_);
    if (exact_) {
      const dim3 grid(blocks_for(parts_.channels, kChainedChannels), images);
      find_chained_means<<<grid, kChainedChannels * kChains, 0, stream>>>(parts_, x.as<float>(), means,
                                                                          x.rows);
    } else {
      const MeanMemory memory{reinterpret_cast<float*>(scratch),
                              finished_.as<unsigned>() + run.lane() * counts()};
      with_pack<T>(parts_.channels, [&]<int N>() {
        const auto with_rows = [&]<int kRows>(std::integral_constant<int, kRows>) {
          const dim3 grid(static_cast<unsigned>(parts_.count),
                          blocks_for(parts_.channels / N, kMeanPacks * kMeanRows / kRows), images);
          find_means<T, To, N, kRows>
              <<<grid, kMeanPacks * kMeanRows, 0, stream>>>(parts_, x.as<T>(), means, memory, x.rows);
        };
        parts_.pixels <= kFewPixels ? with_rows(std::integral_constant<int, kFewRows>{})
                                    : with_rows(std::integral_constant<int, kMeanRows>{});
      });
    }
  }

 private:
  std::int64_t counts() const { return images_ * parts_.channels; }  // at least as many as are used

  bool exact_;
  MapParts parts_;
  std::int64_t images_;
  DeviceBuffer finished_;  // of each lane; zero between launches
};

}  // namespace osprey
