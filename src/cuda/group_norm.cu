// An image that is small is one block's: channels' sums, their squared distances from the groups' means, and
// the result. A larger one is cut into parts of pixels, which follow from the map alone; parts' means and
// squared distances are put together (Chan et al. 1979) and a third kernel writes the result.
#include "cuda/packed_weights.h"
#include "cuda/packs.cuh"
#include "ops/group_norm.h"

namespace osprey {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kWhole = 1 << 16;  // numbers of an image that one block does alone
constexpr std::int64_t kPartNumbers = 1 << 15;
constexpr std::size_t kMostShared = 40 << 10;  // bytes, beside the sums of a block's threads

struct Extents {
  int pixels, channels, groups, each, parts;  // `each`: pixels of a part

  __host__ __device__ int group_channels() const { return channels / groups; }
};

Extents extents_of(const Shape& x, int groups) {
  const std::int64_t pixels = x.size() == 2 ? 1 : x[2] * x[3], channels = x[1];
  check(pixels < (std::int64_t{1} << 31), "group_norm: {} pixels", pixels);
  std::int64_t each = std::max<std::int64_t>(pixels, 1);
  if (pixels * channels > kWhole) each = std::clamp<std::int64_t>(kPartNumbers / channels, 16, 1024);
  return {static_cast<int>(pixels), static_cast<int>(channels), groups, static_cast<int>(each),
          static_cast<int>(std::max<std::int64_t>((pixels + each - 1) / each, 1))};
}

// Of a group: its mean, and the sum of squared distances from it; or 1 / sqrt(variance + epsilon).
struct Moments {
  float mean, other;
};

template <class T>
struct Job {
  Extents map;
  const T* x;
  T* y;
  const float *scale, *bias;
  Moments *parts, *groups;  // of each image: of each part its groups; its groups
  float epsilon;
  bool relu;
  const int* live;

  __device__ float result(float x, int channel, const Moments& m) const {
    const float v = (x - m.mean) * (m.other * scale[channel]) + bias[channel];
    return relu && v < 0 ? 0 : v;
  }
};

// sums[channel] of f(value, channel) over pixels; all threads of the block take part, in the same order each
// time.
template <class T, int N, class F>
__device__ void sum_channels(const Extents& map, const T* x, int begin, int end, float* sums, float* rows,
                             F f) {
  const int packs = map.channels / N, lanes = min(packs, kThreads), height = kThreads / lanes;
  const int lane = static_cast<int>(threadIdx.x) % lanes, row = static_cast<int>(threadIdx.x) / lanes;
  for (int first = 0; first < packs; first += lanes) {
    const int pack = first + lane;
    const bool mine = row < height && pack < packs;
    float sum[N] = {};
    if (mine) {
#pragma unroll 4
      for (int p = begin + row; p < end; p += height) {
        const auto v =
            *reinterpret_cast<const Pack<T, N>*>(x + static_cast<std::int64_t>(p) * map.channels + pack * N);
#pragma unroll
        for (int k = 0; k < N; ++k) sum[k] += f(widen(v.values[k]), pack * N + k);
      }
#pragma unroll
      for (int k = 0; k < N; ++k) rows[(row * lanes + lane) * N + k] = sum[k];
    }
    __syncthreads();
    if (mine && row == 0) {
      for (int r = 1; r < height; ++r)
#pragma unroll
        for (int k = 0; k < N; ++k) sum[k] += rows[(r * lanes + lane) * N + k];
#pragma unroll
      for (int k = 0; k < N; ++k) sums[pack * N + k] = sum[k];
    }
    __syncthreads();
  }
}

// The groups of one part of an image: a block for each part (blockIdx.y) of each image (blockIdx.x).
template <class T, int N, bool whole>
__global__ void __launch_bounds__(kThreads) part_moments(Job<T> job) {
  extern __shared__ float memory[];  // sums of channels, then moments of groups
  __shared__ float rows[kThreads * N];
  const auto image = static_cast<std::int64_t>(blockIdx.x);
  if (job.live && image >= *job.live) return;
  const Extents& map = job.map;
  float* const sums = memory;
  auto* const moments = reinterpret_cast<Moments*>(memory + (map.channels + 1) / 2 * 2);
  const T* const x = job.x + image * map.pixels * map.channels;
  const int part = static_cast<int>(blockIdx.y), begin = part * map.each;
  const int end = min(begin + map.each, map.pixels), of_group = map.group_channels();
  const float count = static_cast<float>(of_group) * static_cast<float>(end - begin);
  const auto for_groups = [&](auto body) {
    for (int g = static_cast<int>(threadIdx.x); g < map.groups; g += kThreads) {
      float sum = 0;
      for (int c = g * of_group; c < (g + 1) * of_group; ++c) sum += sums[c];
      body(g, sum);
    }
    __syncthreads();
  };
  sum_channels<T, N>(map, x, begin, end, sums, rows, [](float v, int) { return v; });
  for_groups([&](int g, float sum) { moments[g].mean = sum / count; });
  sum_channels<T, N>(map, x, begin, end, sums, rows, [&](float v, int channel) {
    const float apart = v - moments[channel / of_group].mean;
    return apart * apart;
  });
  if constexpr (!whole) {
    Moments* const out = job.parts + (image * map.parts + part) * map.groups;
    for_groups([&](int g, float sum) { out[g] = {moments[g].mean, sum}; });
  } else {
    for_groups([&](int g, float sum) { moments[g].other = 1.0f / sqrtf(sum / count + job.epsilon); });
    T* const y = job.y + image * map.pixels * map.channels;
    for (int i = static_cast<int>(threadIdx.x); i < map.pixels * map.channels / N; i += kThreads) {
      const int channel = i * N % map.channels;
      auto v = reinterpret_cast<const Pack<T, N>*>(x)[i];
#pragma unroll
      for (int k = 0; k < N; ++k)
        v.values[k] =
            narrow<T>(job.result(widen(v.values[k]), channel + k, moments[(channel + k) / of_group]));
      reinterpret_cast<Pack<T, N>*>(y)[i] = v;
    }
  }
}

__device__ float warp_sum(float v) {
  for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(0xffffffffu, v, step);
  return v;
}

// A warp for each group (blockIdx.x) of each image (blockIdx.y).
template <class T>
__global__ void __launch_bounds__(32) group_moments(Job<T> job) {
  const auto image = static_cast<std::int64_t>(blockIdx.y);
  if (job.live && image >= *job.live) return;
  const Extents& map = job.map;
  const int group = static_cast<int>(blockIdx.x), lane = static_cast<int>(threadIdx.x);
  const Moments* const parts = job.parts + image * map.parts * map.groups + group;
  const auto count = [&](int part) {
    return static_cast<float>(min(map.each, map.pixels - part * map.each)) *
           static_cast<float>(map.group_channels());
  };
  const float all = static_cast<float>(map.pixels) * static_cast<float>(map.group_channels());
  float sum = 0, squares = 0;
  for (int p = lane; p < map.parts; p += 32) sum += count(p) * parts[p * map.groups].mean;
  const float mean = warp_sum(sum) / all;
  for (int p = lane; p < map.parts; p += 32) {
    const float apart = parts[p * map.groups].mean - mean;
    squares += parts[p * map.groups].other + count(p) * apart * apart;
  }
  squares = warp_sum(squares);
  if (lane == 0) job.groups[image * map.groups + group] = {mean, 1.0f / sqrtf(squares / all + job.epsilon)};
}

template <class T, int N>
struct Written {
  Job<T> job;

  __device__ void operator()(const PackPlace& p) const {
    auto v = *reinterpret_cast<const Pack<T, N>*>(job.x + p.at);
    const Moments* const groups = job.groups + static_cast<std::int64_t>(p.n) * job.map.groups;
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const int channel = p.channel + k;
      v.values[k] =
          narrow<T>(job.result(widen(v.values[k]), channel, groups[channel / job.map.group_channels()]));
    }
    *reinterpret_cast<Pack<T, N>*>(job.y + p.at) = v;
  }
};

class GroupNormStep final : public CudaStep {
 public:
  explicit GroupNormStep(CudaPrepare& p)
      : op_(p.op<GroupNorm>()),
        map_(extents_of(p.input(0).dims, op_.groups)),
        scale_(packed_vector(p, 1, DType::kF32)),
        bias_(packed_vector(p, 2, DType::kF32)) {
    check(p.input(0).dims[0] < 65536 || map_.parts == 1, "group_norm: {} large maps", p.input(0).dims[0]);
    require(shared_bytes() <= kMostShared, "{}: {} channels in {} groups are too many for a GPU",
            p.node().name, map_.channels, map_.groups);
    if (map_.parts > 1) p.request_scratch(moments_of(p.input(0).dims[0]) * sizeof(Moments));
  }

  void launch(CudaRun& run) override {
    if (element_count(run.out(0).dims) == 0) return;
    with_float_type(run.in(0).dtype, [&](auto zero) { launch_as<decltype(zero)>(run); });
    cuda_check_launch("group_norm");
  }

 private:
  std::size_t moments_of(std::int64_t images) const {
    return static_cast<std::size_t>(images * (map_.parts + 1) * map_.groups);
  }

  std::size_t shared_bytes() const {
    return static_cast<std::size_t>((map_.channels + 1) / 2 * 2) * sizeof(float) +
           static_cast<std::size_t>(map_.groups) * sizeof(Moments);
  }

  template <class T>
  void launch_as(CudaRun& run) const {
    const CudaValue& x = run.in(0);
    const auto images = static_cast<unsigned>(x.dims[0]);
    auto* const groups = reinterpret_cast<Moments*>(run.scratch());
    const Job<T> job{.map = map_,
                     .x = x.as<T>(),
                     .y = run.out(0).as<T>(),
                     .scale = scale_->as<float>(),
                     .bias = bias_->as<float>(),
                     .parts = groups + x.dims[0] * map_.groups,
                     .groups = groups,
                     .epsilon = op_.epsilon,
                     .relu = op_.activation == Activation::kRelu,
                     .live = x.rows};
    const std::size_t shared = shared_bytes();
    const dim3 grid(images, static_cast<unsigned>(map_.parts));
    with_pack<T>(map_.channels, [&]<int N>() {
      if (map_.parts == 1) {
        part_moments<T, N, true><<<grid, kThreads, shared, run.stream()>>>(job);
        return;
      }
      part_moments<T, N, false><<<grid, kThreads, shared, run.stream()>>>(job);
      group_moments<T><<<dim3(static_cast<unsigned>(map_.groups), images), 32, 0, run.stream()>>>(job);
      launch_packs<N>(run.out(0), run.stream(), Written<T, N>{job});
    });
  }

  const GroupNorm op_;
  const Extents map_;
  const std::shared_ptr<const DeviceBuffer> scale_, bias_;
};

}  // namespace

CudaKernel group_norm_cuda() {
  return {.op = &kOpInfo<GroupNorm>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare = [](CudaPrepare& p) -> std::unique_ptr<CudaStep> {
            return std::make_unique<GroupNormStep>(p);
          },
          .in_place = {0}};
}

}  // namespace osprey
