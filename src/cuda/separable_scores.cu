// Rows of scores begin at odd multiples of 8 bytes (810 of f32), so that a warp could not store its sums in
// whole sectors. Those of a tile are gathered in shared memory, as they will lie: neighbouring pixels of a
// row are then one piece, copied by 16 bytes.
#include <algorithm>

#include "cuda/early_launch.cuh"
#include "cuda/separable_scores.h"
#include "cuda/separable_tiles.cuh"

namespace osprey {
namespace {

using namespace separable;

constexpr int kAtOnce = 2;  // units of outputs whose weights a warp reads at once
constexpr int kSharedByDefault = 48 << 10;
constexpr int kSharedAnywhere = 99 << 10;  // what a block may have on every device of 8.0 and later

struct Job {
  Problem problems[kMostSeparable];
  int count;
};

// Elements from one row of the matrix to the next.
__host__ __device__ inline int pitch_of(int channels) {
  return (channels + kChunk - 1) / kChunk * kChunk + kPad;
}

// The scores of a tile's pixels, [pixel][output].
template <int kPixels>
__device__ void score(const Problem& p, const T* matrix, float* scores) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32,
            g = lane / 4, t = lane % 4, pitch = pitch_of(p.channels);
  for (int first = warp * kUnit * kAtOnce; first < p.outputs; first += kWarps * kUnit * kAtOnce) {
    float sums[kAtOnce][kPixels / kUnit][2][4] = {};
    for (int channel = 0; channel < p.channels; channel += 32) {
      uint4 weights[kAtOnce][2];
#pragma unroll
      for (int u = 0; u < kAtOnce; ++u) load_weights(p, first + u * kUnit, channel, weights[u]);
#pragma unroll
      for (int m = 0; m < kPixels / kUnit; ++m)
#pragma unroll
        for (int u = 0; u < kAtOnce; ++u)
          multiply(sums[u][m], matrix + (m * kUnit + g) * pitch + channel + t * 8, pitch, weights[u]);
    }
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int output = first + u * kUnit + t * 4 + h * 2;
        if (output >= p.outputs) continue;
        const float2 start = p.bias ? *reinterpret_cast<const float2*>(p.bias + output) : float2{};
#pragma unroll
        for (int m = 0; m < kPixels / kUnit; ++m)
#pragma unroll
          for (int below = 0; below < 2; ++below) {
            float v[2]{sums[u][m][h][below * 2] + start.x, sums[u][m][h][below * 2 + 1] + start.y};
            activate_all<float>(p.activation, v);
            const int pixel = m * kUnit + g + below * 8;
            *reinterpret_cast<float2*>(scores + pixel * p.outputs + output) = float2{v[0], v[1]};
          }
      }
  }
}

template <class Piece>
__device__ void copy(const float* from, float* to, int count) {
  constexpr int kEach = sizeof(Piece) / sizeof(float);
  for (int i = static_cast<int>(threadIdx.x); i < count / kEach; i += kThreads)
    reinterpret_cast<Piece*>(to)[i] = reinterpret_cast<const Piece*>(from)[i];
}

template <int kPixels>
__global__ void __launch_bounds__(kThreads) separable_scores(const __grid_constant__ Job job) {
  using Shape = TileShape<kPixels, 1>;
  extern __shared__ uint4 memory[];
  begin_next_launch();
  int which = 0;
  while (which + 1 < job.count && job.problems[which + 1].first_block <= blockIdx.x) ++which;
  const Problem& p = job.problems[which];
  const Tile tile = tile_of<kPixels, 1>(p, blockIdx.x - p.first_block);
  const int pitch = pitch_of(p.channels);
  T* const matrix = reinterpret_cast<T*>(memory);
  // The pixels under the tile, and later the scores in their place.
  T* const pixels = matrix + kPixels * pitch;
  T* const taps = pixels + Shape::kUnder * kChunk;

  await_launch_before();
  for (int chunk = 0; chunk * kChunk < p.channels; ++chunk) {
    copy_taps(p, chunk, taps);
    copy_pixels<kPixels, 1>(p, tile, chunk, pixels);
    cuda::commit_copies();
    cuda::await_copies<0>();
    __syncthreads();
    convolve<kPixels, 1>(p, tile, chunk, pixels, taps, matrix + chunk * kChunk, pitch);
    __syncthreads();
  }
  auto* const scores = reinterpret_cast<float*>(pixels);
  score<kPixels>(p, matrix, scores);
  __syncthreads();
  const int columns = min(Shape::kColumns, p.out_width - tile.column), count = columns * p.outputs;
  for (int row = 0; row < min(Shape::kRows, p.out_height - tile.row); ++row) {
    const std::int64_t at =
        ((static_cast<std::int64_t>(tile.n) * p.out_height + tile.row + row) * p.out_width + tile.column) *
        p.outputs;
    const float* const from = scores + row * Shape::kColumns * p.outputs;
    at % 4 == 0 && count % 4 == 0 ? copy<float4>(from, p.scores + at, count)
                                  : copy<float2>(from, p.scores + at, count);
  }
}

template <int kPixels>
int shared_bytes(const SeparableConv& c) {
  const int matrix = kPixels * pitch_of(static_cast<int>(c.channels)) * static_cast<int>(sizeof(T)),
            scores = kPixels * static_cast<int>(c.outputs) * static_cast<int>(sizeof(float));
  return matrix + std::max(TileShape<kPixels, 1>::kStageBytes, scores);
}

template <int kPixels>
void launch(std::span<const SeparableConv> convs, const SeparableLaunch& how) {
  Job job{};
  std::int64_t blocks = 0;
  int shared = 0;
  for (const SeparableConv& c : convs) {
    const std::int64_t tiles = tiles_of<1, kPixels>(c);
    if (tiles == 0) continue;
    job.problems[job.count++] = problem_of<1, kPixels>(c, static_cast<unsigned>(blocks));
    blocks += tiles;
    shared = std::max(shared, shared_bytes<kPixels>(c));
  }
  if (blocks == 0) return;
  check(blocks < (std::int64_t{1} << 31), "separable convolutions: {} tiles", blocks);
  if (shared > kSharedByDefault)
    cuda_check(
        cudaFuncSetAttribute(separable_scores<kPixels>, cudaFuncAttributeMaxDynamicSharedMemorySize, shared),
        "separable scores");
  const bool early = how.early && blocks <= how.multiprocessors;
  launch_early(separable_scores<kPixels>,
               {static_cast<unsigned>(blocks), kThreads, shared, early, how.stream}, job);
}

}  // namespace

bool can_score(const SeparableConv& c) {
  constexpr std::int64_t kMostChannels = 512, kMostOutputs = 2048, kMost = std::int64_t{1} << 30;
  return c.stride == 1 && c.sources.empty() && !c.residual && c.channels % 8 == 0 && c.outputs % 2 == 0 &&
         c.channels <= kMostChannels && c.outputs <= kMostOutputs && shared_bytes<16>(c) <= kSharedAnywhere &&
         c.height * c.width < kMost;
}

void launch_separable_scores(std::span<const SeparableConv> convs, const SeparableLaunch& how) {
  std::int64_t tiles = 0;
  int shared = 0;
  for (const SeparableConv& c : convs)
    tiles += tiles_of<1, 32>(c), shared = std::max(shared, shared_bytes<32>(c));
  // Two blocks of a multiprocessor at least.
  const bool large = tiles >= 2 * how.multiprocessors && shared <= how.shared_bytes / 2;
  large ? launch<32>(convs, how) : launch<16>(convs, how);
}

}  // namespace osprey
