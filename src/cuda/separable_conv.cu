// A block makes a tile of pixels of all outputs, 64 channels after the other: it brings the pixels under the
// tile to shared memory (or makes them, of a sum), convolves them depthwise into a matrix [pixel][channel]
// there, and multiplies that with the 1x1's weights by the tensor cores, whose sums stay in registers.
//
// Of each 32 channels a lane's 16 bytes are channels 8t to 8t + 7 of a row, t being its number in four, of
// both operands alike: sums are of any order of channels, and rows of weights are read as they lie.
#include <algorithm>
#include <bit>

#include "cuda/early_launch.cuh"
#include "cuda/separable_scores.h"
#include "cuda/separable_tiles.cuh"

namespace osprey {
namespace {

using namespace separable;

constexpr int kPitch = kChunk + kPad, kPoolSize = 3;
constexpr int kMostSources = static_cast<int>(kMostSeparableSources);

struct Source {
  const T* map;
  float share;
  int height, width;
  int shift;      // each pixel is repeated 1 << shift times each way
  int top, left;  // pads of pooling
};

struct Sum {
  Source sources[kMostSources], last;
  int plain;    // of the sources
  bool pooled;  // whether `last` is the last one
  Activation activation;
  T *stored, *pooled_map;
};

// Several problems, or one and the sum that it is of.
template <bool kSummed>
struct Job;
template <>
struct Job<false> {
  Problem problems[kMostSeparable];
  int count;
};
template <>
struct Job<true> {
  Problem problems[1];
  Sum sum;
  static constexpr int count = 1;
};

__device__ Pack8 summand(const Source& s, const Under& u, int n, int channels) {
  return *pack_at(s.map, s.height, s.width, channels, n, u.row >> s.shift, u.column >> s.shift, u.channel);
}

__device__ __half2 halves(unsigned word) { return reinterpret_cast<const __half2&>(word); }

__device__ void raise(unsigned& best, unsigned to) {
  const __half2 larger = __hmax2(halves(best), halves(to));
  best = reinterpret_cast<const unsigned&>(larger);
}

// NaN gives way to numbers, and what lies outside the map does not take part.
__device__ Pack8 largest_under(const Source& s, const Under& u, int n, int channels) {
  const int top = 2 * u.row - s.top, left = 2 * u.column - s.left;
  const unsigned least = cuda::packed<T>(-INFINITY, -INFINITY);
  Pack8 best{least, least, least, least};
#pragma unroll
  for (int r = 0; r < kPoolSize; ++r)
#pragma unroll
    for (int q = 0; q < kPoolSize; ++q) {  // moved to the edge, which is in the same window
      const int row = min(max(top + r, 0), s.height - 1), column = min(max(left + q, 0), s.width - 1);
      const Pack8 x = *pack_at(s.map, s.height, s.width, channels, n, row, column, u.channel);
      raise(best.x, x.x), raise(best.y, x.y), raise(best.z, x.z), raise(best.w, x.w);
    }
  return best;
}

__device__ void add(float (&sum)[8], const Pack8& x, float share) {
  const unsigned words[4]{x.x, x.y, x.z, x.w};
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const float2 pair = __half22float2(halves(words[k]));
    sum[2 * k] += pair.x * share;
    sum[2 * k + 1] += pair.y * share;
  }
}

// Sums the pixels under a tile, as ops/weighted_sum.h has it. Of small tiles, which are those of small grids,
// a thread reads all that it sums before it uses any of it; otherwise other blocks have work while one waits,
// if they find registers. Pooled packs wait in shared memory, where their sums will be.
template <int kPixels>
__device__ void sum_pixels(const Problem& p, const Sum& sum, const Tile& tile, int chunk, T* to) {
  using Shape = TileShape<kPixels, 1>;
  constexpr int kItems = Shape::kUnder * kPacks, kRounds = (kItems + kThreads - 1) / kThreads,
                kAtOnce = kPixels == 64 ? 1 : kRounds;
  const auto store = [&](T* map, const Under& u, const Pack8& pack) {
    // Pixels of the tile itself are stored by its block alone.
    if (map && static_cast<unsigned>(u.row - tile.row) < Shape::kRows &&
        static_cast<unsigned>(u.column - tile.column) < Shape::kColumns)
      *const_cast<Pack8*>(pack_at(map, p.height, p.width, p.channels, tile.n, u.row, u.column, u.channel)) =
          pack;
  };
#pragma unroll 1
  for (int first = 0; first < kRounds; first += kAtOnce) {
    const int first_item = static_cast<int>(threadIdx.x) + first * kThreads;
    auto* const packs = reinterpret_cast<Pack8*>(to) + first_item;
    const auto is_item = [&](int i) { return first_item + i * kThreads < kItems; };
    const auto under = [&](int i) {
      Under out = Under::at<kPixels, 1>(p, tile, chunk, first_item + i * kThreads);
      out.there = out.there && is_item(i);
      return out;
    };
    Pack8 x[kAtOnce][kMostSources];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i)
#pragma unroll
      for (int s = 0; s < kMostSources; ++s)
        if (s < sum.plain && under(i).there) x[i][s] = summand(sum.sources[s], under(i), tile.n, p.channels);
    if (sum.pooled) {
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i)
        if (const Under u = under(i); u.there) {
          const Pack8 largest = largest_under(sum.last, u, tile.n, p.channels);
          packs[i * kThreads] = largest;
          store(sum.pooled_map, u, largest);
        }
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const Under u = under(i);
      Pack8 out{};
      if (u.there) {
        float v[8] = {};
#pragma unroll
        for (int s = 0; s < kMostSources; ++s)
          if (s < sum.plain) add(v, x[i][s], sum.sources[s].share);
        if (sum.pooled) add(v, packs[i * kThreads], sum.last.share);
        activate_all<T>(sum.activation, v);
        out = {cuda::packed<T>(v[0], v[1]), cuda::packed<T>(v[2], v[3]), cuda::packed<T>(v[4], v[5]),
               cuda::packed<T>(v[6], v[7])};
        store(sum.stored, u, out);
      }
      if (is_item(i)) packs[i * kThreads] = out;
    }
  }
}

// A warp's part of the product: units of 16 pixels and 16 outputs, every kWarps-th.
template <int kPixels, int kUnits>
struct Product {
  static constexpr int kDown = kPixels / kUnit;
  float sums[kUnits][2][4] = {};
  uint4 weights[kUnits][2][2];  // of 32 channels each; of two times 8 outputs
  float4 start[kUnits];         // what the lane's sums begin with

  static __device__ int unit(int i) { return static_cast<int>(threadIdx.x) / 32 + i * kWarps; }
  static __device__ int first_output(int i) { return unit(i) / kDown * kUnit; }
  static __device__ int first_pixel(int i) { return unit(i) % kDown * kUnit; }

  __device__ void load_bias(const Problem& p) {
#pragma unroll
    for (int i = 0; i < kUnits; ++i) {
      const int output = first_output(i) + static_cast<int>(threadIdx.x) % 4 * 4;
      start[i] = p.bias && output < p.outputs ? *reinterpret_cast<const float4*>(p.bias + output) : float4{};
    }
  }

  __device__ void load(const Problem& p, int chunk) {
#pragma unroll
    for (int i = 0; i < kUnits; ++i)
#pragma unroll
      for (int k = 0; k < 2; ++k) load_weights(p, first_output(i), chunk * kChunk + k * 32, weights[i][k]);
  }

  __device__ void add(const Problem& p, int chunk, const T* matrix) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      if (chunk * kChunk + k * 32 >= p.channels) break;
#pragma unroll
      for (int i = 0; i < kUnits; ++i) {
        if (first_output(i) >= p.outputs) break;
        multiply(sums[i], matrix + (first_pixel(i) + lane / 4) * kPitch + k * 32 + lane % 4 * 8, kPitch,
                 weights[i][k]);
      }
    }
  }

  template <int kStride>
  __device__ void store(const Problem& p, const Tile& tile) {
    using Shape = TileShape<kPixels, kStride>;
    const int lane = static_cast<int>(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int i = 0; i < kUnits; ++i) {
      const int output = first_output(i) + t * 4;
      if (output >= p.outputs) break;
#pragma unroll
      for (int below = 0; below < 2; ++below) {
        const int pixel = first_pixel(i) + g + below * 8, row = pixel / Shape::kColumns;
        const int y = tile.row + row, x = tile.column + pixel - row * Shape::kColumns;
        if (y >= p.out_height || x >= p.out_width) continue;
        const std::int64_t at =
            ((static_cast<std::int64_t>(tile.n) * p.out_height + y) * p.out_width + x) * p.outputs + output;
        const float* const first = sums[i][0] + below * 2;
        const float* const second = sums[i][1] + below * 2;
        float v[4] = {first[0] + start[i].x, first[1] + start[i].y, second[0] + start[i].z,
                      second[1] + start[i].w};
        if (p.residual) {
          float r[4];
          separable::load(r, p.residual + at);
#pragma unroll
          for (int k = 0; k < 4; ++k) v[k] += r[k];
        }
        activate_all<T>(p.activation, v);
        *reinterpret_cast<uint2*>(p.y + at) = narrowed(v);
      }
    }
  }
};

// Of a multiprocessor at least: large tiles are those of large grids, whose blocks wait for each other's
// sake.
template <int kPixels, int kUnits, bool kSummed>
constexpr int blocks_at_once() {
  if (kPixels < 64 || kUnits > 2) return 1;
  return kSummed ? 2 : 3;
}

template <int kStride, int kPixels, int kUnits, bool kSummed>
__global__ void __launch_bounds__(kThreads, blocks_at_once<kPixels, kUnits, kSummed>())
    separable(const __grid_constant__ Job<kSummed> job) {
  using Shape = TileShape<kPixels, kStride>;
  constexpr int kMatrixBytes = kPixels * kPitch * static_cast<int>(sizeof(T));
  extern __shared__ uint4 memory[];
  begin_next_launch();
  int which = 0;
  while (which + 1 < job.count && job.problems[which + 1].first_block <= blockIdx.x) ++which;
  const Problem& p = job.problems[which];
  const Tile tile = tile_of<kPixels, kStride>(p, blockIdx.x - p.first_block);
  const auto at = [&](int bytes) {
    return reinterpret_cast<T*>(reinterpret_cast<std::byte*>(memory) + bytes);
  };
  T* const matrix = at(0);
  const auto pixels = [&](int chunk) {
    return at(kMatrixBytes + (kSummed ? 0 : chunk % 2) * Shape::kStageBytes);
  };
  const auto taps = [&](int chunk) { return pixels(chunk) + Shape::kUnder * kChunk; };

  Product<kPixels, kUnits> product;
  // A sum takes many registers, and so do many blocks.
  constexpr bool kLate = kPixels == 64 || (kSummed && kUnits > 2);
  if constexpr (!kLate) product.load(p, 0), product.load_bias(p);
  copy_taps(p, 0, taps(0));
  await_launch_before();
  if constexpr (!kSummed) copy_pixels<kPixels, kStride>(p, tile, 0, pixels(0));
  cuda::commit_copies();
  const int chunks = (p.channels + kChunk - 1) / kChunk;
  for (int chunk = 0; chunk < chunks; ++chunk) {
    if constexpr (kSummed) {
      if (chunk > 0) copy_taps(p, chunk, taps(chunk));
      cuda::commit_copies();
      sum_pixels<kPixels>(p, job.sum, tile, chunk, pixels(chunk));
      cuda::await_copies<0>();
    } else {
      if (chunk + 1 < chunks) {
        copy_taps(p, chunk + 1, taps(chunk + 1));
        copy_pixels<kPixels, kStride>(p, tile, chunk + 1, pixels(chunk + 1));
      }
      cuda::commit_copies();
      cuda::await_copies<1>();
    }
    __syncthreads();
    convolve<kPixels, kStride>(p, tile, chunk, pixels(chunk), taps(chunk), matrix, kPitch);
    if constexpr (kLate) product.load(p, chunk);
    __syncthreads();
    product.add(p, chunk, matrix);
    if (!kLate && chunk + 1 < chunks) product.load(p, chunk + 1);
  }
  if constexpr (kLate) product.load_bias(p);
  product.template store<kStride>(p, tile);
}

int units_of(const SeparableConv& c, int pixels) { return pixels / kUnit * parts(c.outputs, kUnit); }

constexpr int kMostUnits = 4 * kWarps;

Source source_of(const SeparableSource& s) {
  return {.map = static_cast<const T*>(s.map),
          .share = s.share,
          .height = static_cast<int>(s.height),
          .width = static_cast<int>(s.width),
          .shift = std::countr_zero(static_cast<unsigned>(s.scale)),
          .top = s.top,
          .left = s.left};
}

Sum sum_of(const SeparableConv& c) {
  Sum out{.sources = {},
          .last = source_of(c.sources.back()),
          .plain = 0,
          .pooled = c.sources.back().pooled,
          .activation = c.sum_activation,
          .stored = static_cast<T*>(c.sum),
          .pooled_map = static_cast<T*>(c.sources.back().pooled_map)};
  for (const SeparableSource& s : c.sources)
    if (!s.pooled) out.sources[out.plain++] = source_of(s);
  return out;
}

template <int kStride, int kPixels, int kUnits, bool kSummed>
void launch(std::span<const SeparableConv> convs, const SeparableLaunch& how) {
  using Shape = TileShape<kPixels, kStride>;
  Job<kSummed> job{};
  std::int64_t blocks = 0;
  int most_chunks = 1, count = 0;
  for (const SeparableConv& c : convs) {
    const std::int64_t tiles = tiles_of<kStride, kPixels>(c);
    if (tiles == 0) continue;
    job.problems[count++] = problem_of<kStride, kPixels>(c, static_cast<unsigned>(blocks));
    blocks += tiles;
    most_chunks = std::max(most_chunks, parts(c.channels, kChunk));
  }
  if (blocks == 0) return;
  check(blocks < (std::int64_t{1} << 31), "separable convolutions: {} tiles", blocks);
  if constexpr (kSummed)
    job.sum = sum_of(convs.front());
  else
    job.count = count;
  const int stages = kSummed || most_chunks == 1 ? 1 : 2,
            shared = kPixels * kPitch * static_cast<int>(sizeof(T)) + stages * Shape::kStageBytes;
  const auto kernel = separable<kStride, kPixels, kUnits, kSummed>;
  constexpr int kSharedByDefault = 48 << 10;
  if (shared > kSharedByDefault)
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared),
               "separable convolution");
  // Larger grids gain nothing by it: their blocks would wait where those before them still compute.
  const bool early = how.early && blocks <= how.multiprocessors;
  launch_early(kernel, {static_cast<unsigned>(blocks), kThreads, shared, early, how.stream}, job);
}

template <int kStride, int kPixels, bool kSummed>
void launch(std::span<const SeparableConv> convs, int units, const SeparableLaunch& how) {
  if (units <= kWarps) return launch<kStride, kPixels, 1, kSummed>(convs, how);
  if (units <= 2 * kWarps) return launch<kStride, kPixels, 2, kSummed>(convs, how);
  launch<kStride, kPixels, 4, kSummed>(convs, how);
}

// The largest tiles that leave few multiprocessors idle, and whose sums the warps can hold.
template <int kStride, bool kSummed>
void launch(std::span<const SeparableConv> convs, const SeparableLaunch& how) {
  const auto units = [&](int pixels) {
    int most = 0;
    for (const SeparableConv& c : convs) most = std::max(most, units_of(c, pixels));
    return most;
  };
  const auto good = [&]<int kPixels>(std::integral_constant<int, kPixels>) {
    std::int64_t tiles = 0;
    for (const SeparableConv& c : convs) tiles += tiles_of<kStride, kPixels>(c);
    return units(kPixels) <= kMostUnits && tiles >= how.multiprocessors * 3 / 4;
  };
  if constexpr (kStride == 1)
    if (good(std::integral_constant<int, 64>{})) return launch<kStride, 64, kSummed>(convs, units(64), how);
  if (good(std::integral_constant<int, 32>{})) return launch<kStride, 32, kSummed>(convs, units(32), how);
  launch<kStride, 16, kSummed>(convs, units(16), how);
}

}  // namespace

bool can_separate(const SeparableConv& c) {
  if (c.f32_out) return can_score(c);
  constexpr std::int64_t kMost = std::int64_t{1} << 30;
  const bool sizes = c.channels % 8 == 0 && c.outputs % 8 == 0 && units_of(c, kUnit) <= kMostUnits &&
                     c.height * c.width < kMost && c.outputs * c.channels < kMost;
  if (!sizes || (c.stride != 1 && c.stride != 2) || c.sources.empty()) return sizes && c.stride <= 2;
  const auto takes = [&](const SeparableSource& s) {
    return s.pooled ? s.scale == 1 && &s == &c.sources.back()
                    : std::has_single_bit(static_cast<unsigned>(s.scale));
  };
  const bool same_size = c.out_height == c.height && c.out_width == c.width;
  return c.stride == 1 && c.top == 1 && c.left == 1 && same_size &&
         c.sources.size() <= kMostSeparableSources &&
         std::ranges::all_of(c.sources, takes);
}

void launch_separable_convs(std::span<const SeparableConv> convs, const SeparableLaunch& how) {
  check(!convs.empty() && convs.size() <= kMostSeparable, "{} separable convolutions in a launch",
        convs.size());
  if (convs.front().f32_out) return launch_separable_scores(convs, how);
  if (!convs.front().sources.empty()) {
    check(convs.size() == 1, "{} separable convolutions of sums", convs.size());
    return launch<1, true>(convs, how);
  }
  convs.front().stride == 1 ? launch<1, false>(convs, how) : launch<2, false>(convs, how);
}

}  // namespace osprey
