// Each block of a cluster has a slice of the channels, of all pixels: it sums them, multiplies its means by
// its columns of the first layer, and gives these parts of the sums to every other block. With all parts, a
// block makes the gates of its channels, and scales them. So many packs a thread as there are registers for
// are read once; the rest of a large map is read again.
#include <algorithm>

#include "cuda/activations.cuh"
#include "cuda/check.h"
#include "cuda/conversions.cuh"
#include "cuda/hopper/instructions.cuh"
#include "cuda/hopper/squeeze_excite.h"
#include "cuda/packs.cuh"

namespace osprey {
namespace {

using namespace hopper;

constexpr int kThreads = 1024, kWarps = kThreads / 32, kBlocks = 16;  // of a block, of a cluster
constexpr int kHeld = 8;                                              // packs of a thread in registers
constexpr int kMostShares = 32;                                       // into which a channel's sum is divided
constexpr int kMostShared = 220 << 10;

template <class T>
struct Job {
  SqueezedMap map;
  const T *x, *squeeze, *expand;
  const float *squeeze_bias, *expand_bias;
  void* y;
  Storing storing;
  const int* live;
  int packs;  // of a block, at most
};

template <class T>
constexpr int kPack = 16 / static_cast<int>(sizeof(T));

// Where what a block shares begins, in bytes.
struct Places {
  int squeeze, expand, squeeze_bias, expand_bias, means, gates, hidden, parts, bytes;

  __host__ __device__ Places(int channels, int hidden_count, int pack, int number_bytes) {
    int at = 0;
    const auto take = [&at](int count, int each) {
      const int begin = at;
      at += (count * each + 15) / 16 * 16;
      return begin;
    };
    take(kThreads * pack, 4);  // sums of threads
    squeeze = take(hidden_count * channels, number_bytes);
    expand = take(hidden_count * channels, number_bytes);
    squeeze_bias = take(hidden_count, 4);
    expand_bias = take(channels, 4);
    means = take(channels, 4);
    gates = take(channels, 4);
    hidden = take(hidden_count, 4);
    parts = take(kBlocks * hidden_count, 4);
    bytes = at;
  }
};

__device__ void store_in_block(float* here, unsigned rank, float value) {
  asm volatile(
      "{\n"
      ".reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "st.shared::cluster.f32 [there], %2;\n"
      "}" ::"r"(shared_address(here)),
      "r"(rank), "f"(value)
      : "memory");
}

__device__ float warp_total(float sum) {
#pragma unroll
  for (int other = 16; other > 0; other /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, other);
  return sum;
}

// Of the sums of `rows` rows of threads, `channels` side by side, the means.
__device__ void find_means(float* sums, float* means, int rows, int channels, int pixels) {
  const int thread = static_cast<int>(threadIdx.x), shares = min(min(kThreads / channels, rows), kMostShares);
  const int share = thread / channels, channel = thread - share * channels;
  float sum = 0;
  if (share < shares)
#pragma unroll 8
    for (int r = share; r < rows; r += shares) sum += sums[r * channels + channel];
  __syncthreads();
  if (share < shares) sums[thread] = sum;
  __syncthreads();
  if (thread < channels) {
    sum = 0;
#pragma unroll 8
    for (int s = 0; s < shares; ++s) sum += sums[s * channels + thread];
    means[thread] = sum / static_cast<float>(pixels);
  }
  __syncthreads();
}

template <class T, bool kIntegers>
__global__ void __launch_bounds__(kThreads, 1) squeeze_excite(const __grid_constant__ Job<T> job) {
  constexpr int N = kPack<T>;
  using Value = Pack<T, N>;
  extern __shared__ uint4 memory[];
  const SqueezedMap& map = job.map;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const unsigned rank = cluster_rank();
  const int image = static_cast<int>(blockIdx.x / kBlocks), hidden = map.hidden;
  const int first = static_cast<int>(rank) * job.packs * N;
  const int channels = max(min(job.packs * N, map.channels - first), 0), packs = channels / N;
  const Places places(job.packs * N, hidden, N, static_cast<int>(sizeof(T)));
  auto* const base = reinterpret_cast<std::byte*>(memory);
  const auto floats = [&](int at) { return reinterpret_cast<float*>(base + at); };
  auto* const squeeze = reinterpret_cast<Value*>(base + places.squeeze);
  auto* const expand = reinterpret_cast<Value*>(base + places.expand);
  float *const squeeze_bias = floats(places.squeeze_bias), *const expand_bias = floats(places.expand_bias);
  float *const means = floats(places.means), *const gates = floats(places.gates);
  float *const units = floats(places.hidden), *const parts = floats(places.parts);
  for (int i = thread; i < hidden * packs; i += kThreads) {
    const int row = i / packs;
    squeeze[i] = *reinterpret_cast<const Value*>(job.squeeze + static_cast<std::int64_t>(row) * map.channels +
                                                 first + (i - row * packs) * N);
    expand[i] = reinterpret_cast<const Value*>(job.expand + static_cast<std::int64_t>(first) * hidden)[i];
  }
  for (int i = thread; i < hidden; i += kThreads) squeeze_bias[i] = job.squeeze_bias[i];
  for (int i = thread; i < channels; i += kThreads) expand_bias[i] = job.expand_bias[first + i];
  sync_cluster();  // all blocks are there to be written to
  if (job.live && image >= *job.live) return;

  const int rows = packs > 0 ? kThreads / packs : 0, row = packs > 0 ? thread / packs : 0;
  const int begin = row < rows ? row : map.pixels, pack = thread - row * packs;
  const std::int64_t at = static_cast<std::int64_t>(image) * map.pixels * map.channels + first + pack * N;
  const auto place = [&](int pixel) { return at + static_cast<std::int64_t>(pixel) * map.channels; };
  const auto load = [&](int pixel) { return *reinterpret_cast<const Value*>(job.x + place(pixel)); };
  Value held[kHeld];
#pragma unroll
  for (int k = 0; k < kHeld; ++k)
    if (const int pixel = begin + k * rows; pixel < map.pixels) held[k] = load(pixel);
  float sum[N] = {};
  const auto add = [&](const Value& value) {
#pragma unroll
    for (int k = 0; k < N; ++k) sum[k] += widen(value.values[k]);
  };
#pragma unroll
  for (int k = 0; k < kHeld; ++k)
    if (begin + k * rows < map.pixels) add(held[k]);
#pragma unroll 4
  for (int pixel = begin + kHeld * rows; pixel < map.pixels; pixel += rows) add(load(pixel));
  float* const sums = floats(0);
  if (row < rows)
#pragma unroll
    for (int k = 0; k < N; ++k) sums[thread * N + k] = sum[k];
  __syncthreads();
  if (packs > 0) find_means(sums, means, rows, channels, map.pixels);

  const auto* const columns = reinterpret_cast<const T*>(squeeze);
  for (int h = warp; h < hidden; h += kWarps) {
    float dot = 0;
    for (int c = lane; c < channels; c += 32)
      dot = __fmaf_rn(widen(columns[h * channels + c]), means[c], dot);
    dot = warp_total(dot);
    if (lane < kBlocks)
      store_in_block(parts + static_cast<int>(rank) * hidden + h, static_cast<unsigned>(lane), dot);
  }
  sync_cluster();
  for (int h = thread; h < hidden; h += kThreads) {
    float unit = 0;
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) unit += parts[b * hidden + h];
    units[h] = activate(map.activation, unit + squeeze_bias[h]);
  }
  __syncthreads();
  const auto* const outgoing = reinterpret_cast<const T*>(expand);
#pragma unroll 2
  for (int c = warp; c < channels; c += kWarps) {
    float dot = 0;
    for (int h = lane; h < hidden; h += 32) dot = __fmaf_rn(widen(outgoing[c * hidden + h]), units[h], dot);
    dot = warp_total(dot);
    if (lane == 0) gates[c] = sigmoid(dot + expand_bias[c]);
  }
  __syncthreads();

  if (row >= rows) return;
  float gate[N];
#pragma unroll
  for (int k = 0; k < N; ++k) gate[k] = gates[pack * N + k];
  const auto scale = [&](const Value& value, int pixel) {
    float scaled[N];
#pragma unroll
    for (int k = 0; k < N; ++k) scaled[k] = widen(value.values[k]) * gate[k];
    store_pack_as<T, kIntegers>(job.storing, scaled, job.y, place(pixel));
  };
#pragma unroll
  for (int k = 0; k < kHeld; ++k)
    if (const int pixel = begin + k * rows; pixel < map.pixels) scale(held[k], pixel);
#pragma unroll 4
  for (int pixel = begin + kHeld * rows; pixel < map.pixels; pixel += rows) scale(load(pixel), pixel);
}

int pack_of(DType type) { return 16 / static_cast<int>(size_of(type)); }

// Packs of channels of a block.
int packs_of(const SqueezedMap& map) { return (map.channels / pack_of(map.type) + kBlocks - 1) / kBlocks; }

int shared_bytes(const SqueezedMap& map) {
  const int pack = pack_of(map.type);
  return Places(packs_of(map) * pack, map.hidden, pack, static_cast<int>(size_of(map.type))).bytes;
}

// body(the launch, the kernel).
template <class T, bool kIntegers, class Body>
void with_launch(const SqueezedMap& map, std::int64_t images, cudaStream_t stream, Body&& body) {
  const auto kernel = squeeze_excite<T, kIntegers>;
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), "clusters");
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kMostShared),
             "shared memory");
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {kBlocks, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(images * kBlocks));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = static_cast<std::size_t>(shared_bytes(map));
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = 1;
  body(config, kernel);
}

}  // namespace

bool squeezes_by_cluster(const SqueezedMap& map) {
  const int pack = pack_of(map.type), packs = packs_of(map);
  if (map.channels == 0 || map.channels % pack != 0 || packs * pack > kThreads ||
      shared_bytes(map) > kMostShared)
    return false;
  if (const int rows = kThreads / packs; (map.pixels + rows - 1) / rows > kHeld) return false;
  int clusters = 0;
  with_float_type(map.type, [&](auto zero) {
    with_launch<decltype(zero), false>(map, 1, nullptr, [&](const cudaLaunchConfig_t& config, auto kernel) {
      if (cudaOccupancyMaxActiveClusters(&clusters, kernel, &config) != cudaSuccess) {
        (void)cudaGetLastError();  // the device has none of that size
        clusters = 0;
      }
    });
  });
  return clusters > 0;
}

void launch_squeeze_excite(const SqueezedMap& map, const SqueezeMemory& memory, std::int64_t images,
                           cudaStream_t stream) {
  if (images * map.pixels == 0) return;
  with_float_type(map.type, [&](auto zero) {
    using T = decltype(zero);
    const auto typed = [](const void* p) { return static_cast<const T*>(p); };
    const Job<T> job{.map = map,
                     .x = typed(memory.x),
                     .squeeze = typed(memory.squeeze),
                     .expand = typed(memory.expand),
                     .squeeze_bias = memory.squeeze_bias,
                     .expand_bias = memory.expand_bias,
                     .y = memory.y,
                     .storing = Storing(memory.quantization),
                     .live = memory.live,
                     .packs = packs_of(map)};
    const auto launch = [&](const cudaLaunchConfig_t& config, auto kernel) {
      cuda_check(cudaLaunchKernelEx(&config, kernel, job), "squeeze_excite");
    };
    if (memory.quantization)
      with_launch<T, true>(map, images, stream, launch);
    else
      with_launch<T, false>(map, images, stream, launch);
  });
}

}  // namespace osprey
