// As matrix products, of the pixels' windows by the weights. A cluster of two blocks makes 2 x 128
// neighbouring pixels of one convolution by up to 256 outputs: the tensor memory engine gathers the windows
// (in its im2col mode, which knows borders and walks from row to row and image to image) and copies each
// weight once for both blocks. In a block, one thread keeps four steps of copies under way, each 64 channels
// of one tap (beyond the last channel the engine gives zeros, which take whatever weight stands there away),
// and two warpgroups multiply 64 pixels each. Clusters go from tile to tile of all convolutions, the longest
// first.
//
// Every sum runs over taps, then channels, whatever the tile: the result of a pixel depends on nothing but
// its window, in particular not on how many images there are.
#include <algorithm>
#include <array>
#include <span>

#include "cuda/activations.cuh"
#include "cuda/check.h"
#include "cuda/hopper/conv_group.h"
#include "cuda/hopper/instructions.cuh"
#include "cuda/numbers.cuh"

namespace osprey {
namespace {

using namespace hopper;

constexpr int kTilePixels = 128, kMostOutputs = 256, kDepth = 64;  // of a block's tile, and of a step
constexpr int kStages = 4, kBlocks = 2;                            // steps under way; blocks of a cluster
constexpr int kWarpgroup = 128, kMultipliers = 2, kThreads = (1 + kMultipliers) * kWarpgroup;
constexpr int kRowBytes = kDepth * 2, kPixelBytes = kTilePixels * kRowBytes;
constexpr int kWeightBytes = kMostOutputs * kRowBytes;
// Registers of a thread that copies, and of one that multiplies; 65536 in all.
constexpr int kFewRegisters = 40, kManyRegisters = 232;

// Outputs of a tile, by the type of the result: the widths that kernels exist for.
constexpr std::array<int, 3> kHalfWidths{256, 128, 64};
constexpr std::array<int, 4> kFloatWidths{240, 128, 48, 16};

// Outputs whose order the packed weight changes together, so that a lane has 16 or 32 neighbouring bytes.
constexpr int packed_group(bool f32_out) { return f32_out ? 16 : 32; }

struct Problem {
  CUtensorMap x, weight;
  void* y;
  const float* bias;
  int pixels, height, width, outputs;
  int side, channels, chunks;  // side: of the window; chunks: of kDepth channels
  int tile_outputs, output_tiles, first_pair;
  Activation activation;
};

struct Group {
  Problem problems[kMostGroupedConvs];
  int count, pairs;  // pairs: of tiles, one a cluster
};

struct Shared {
  std::byte pixels[kStages][kPixelBytes];
  std::byte weights[kStages][kWeightBytes];
  std::uint64_t full[kStages], empty[kStages];
};
constexpr int kSharedBytes = sizeof(Shared) + 1024;  // begins at a multiple of 1024

// Which stage is next, and in which parity of its barriers.
struct Turn {
  int stage = 0;
  unsigned parity = 0;
  __device__ void advance() {
    if (++stage == kStages) stage = 0, parity ^= 1;
  }
};

// A block's part of a pair of tiles.
struct Tile {
  const Problem* problem;
  int pixel, output;  // the first ones

  __device__ Tile(const Group& group, int pair, unsigned rank) {
    int i = 0;
    while (i + 1 < group.count && group.problems[i + 1].first_pair <= pair) ++i;
    problem = &group.problems[i];
    const int at = pair - problem->first_pair, across = problem->output_tiles;
    pixel = (at / across * kBlocks + static_cast<int>(rank)) * kTilePixels;
    output = at % across * problem->tile_outputs;
  }
  __device__ int steps() const { return problem->side * problem->side * problem->chunks; }
};

// Copies what a tile's steps need, one after the other, as stages become free.
__device__ void copy_tile(const Tile& tile, unsigned rank, Shared& shared, Turn& turn) {
  const Problem& p = *tile.problem;
  const int area = p.height * p.width, n = tile.pixel / area, place = tile.pixel - n * area;
  const int y = place / p.width, x = place - y * p.width, border = p.side / 2;
  const int half = p.tile_outputs / kBlocks, begin = static_cast<int>(rank) * half;
  const unsigned bytes = static_cast<unsigned>(kPixelBytes + p.tile_outputs * kRowBytes);
  int tap = 0;  // where its weights begin
  for (int dy = 0; dy < p.side; ++dy)
    for (int dx = 0; dx < p.side; ++dx, tap += p.channels)
      for (int c = 0; c < p.chunks; ++c) {
        await(&shared.empty[turn.stage], turn.parity ^ 1);
        expect_bytes(&shared.full[turn.stage], bytes);
        copy_pixels(shared.pixels[turn.stage], &p.x, &shared.full[turn.stage], c * kDepth, x - border,
                    y - border, n, static_cast<unsigned>(dx), static_cast<unsigned>(dy));
        copy_box(shared.weights[turn.stage] + begin * kRowBytes, &p.weight, &shared.full[turn.stage],
                 tap + c * kDepth, tile.output + begin, (1u << kBlocks) - 1);
        turn.advance();
      }
}

// The warp has read the stage: both blocks may copy into it, since each brings half of the other's weights.
__device__ void release(Shared& shared, int stage) {
  const unsigned lane = threadIdx.x % 32;
  if (lane < kBlocks) arrive_at(&shared.empty[stage], lane);
}

// Packed and stored as it lies: a lane's numbers of a group of columns are neighbouring outputs.
template <class T, int kCount>
__device__ void store(const float (&values)[kCount], T* to, int live) {
  if (live >= kCount && reinterpret_cast<std::uintptr_t>(to) % 16 == 0) {
    alignas(16) T packed[kCount];
#pragma unroll
    for (int k = 0; k < kCount; ++k) packed[k] = narrow<T>(values[k]);
    *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(packed);
    return;
  }
#pragma unroll
  for (int k = 0; k < kCount; ++k)
    if (k < live) to[k] = narrow<T>(values[k]);
}

// The sums of two rows of the tile, with bias and activation, into the result.
template <class T, int kSums>
__device__ void store_tile(const Tile& tile, const float (&sums)[kSums], int row) {
  constexpr int kGroups = 16 / static_cast<int>(sizeof(T)) / 2;  // of 8 columns, of which a lane has 2
  constexpr int kCount = 2 * kGroups;
  const Problem& p = *tile.problem;
  const int t = static_cast<int>(threadIdx.x % 4);
#pragma unroll
  for (int group = 0; group < kSums / 4 / kGroups; ++group) {
    const int output = tile.output + group * kGroups * 8 + t * kCount, live = p.outputs - output;
    float bias[kCount];
#pragma unroll
    for (int k = 0; k < kCount; ++k) bias[k] = p.bias && k < live ? __ldg(p.bias + output + k) : 0.0f;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int pixel = tile.pixel + row + half * 8;
      float values[kCount];
#pragma unroll
      for (int k = 0; k < kCount; ++k)
        values[k] = sums[(group * kGroups + k / 2) * 4 + half * 2 + k % 2] + bias[k];
      activate_all<T>(p.activation, values);
      if (pixel < p.pixels && live > 0)
        store(values, static_cast<T*>(p.y) + static_cast<std::int64_t>(pixel) * p.outputs + output, live);
    }
  }
}

template <class T, class Out, int kOutputs>
__device__ void multiply_tile(const Tile& tile, Shared& shared, Turn& turn) {
  const int warpgroup = static_cast<int>(threadIdx.x / kWarpgroup) - 1;
  const int steps = tile.steps();
  // Zeroed here: where the first product is a fresh one, the compiler makes products wait for each other.
  float sums[kOutputs / 2] = {};
  int before = 0;
#pragma unroll 1  // copies of the loop would each want the sums in registers of their own
  for (int step = 0; step < steps; ++step) {
    await(&shared.full[turn.stage], turn.parity);
    std::uint64_t a = matrix_descriptor(shared.pixels[turn.stage] + warpgroup * (kPixelBytes / kMultipliers));
    std::uint64_t b = matrix_descriptor(shared.weights[turn.stage]);
    pin(sums);
    begin_products();
#pragma unroll
    for (int k = 0; k < kDepth / 16; ++k, a += kDescriptorStep, b += kDescriptorStep)
      WarpgroupProduct<T, kOutputs>::add(sums, a, b, false);
    commit_products();
    pin(sums);
    if (step > 0) {
      await_products<1>();
      release(shared, before);
    }
    before = turn.stage;
    turn.advance();
  }
  await_products<0>();
  pin(sums);
  release(shared, before);
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32 % 4);
  store_tile<Out>(tile, sums, warpgroup * 64 + warp * 16 + lane / 4);
}

template <class T, class Out>
__device__ void multiply(const Tile& tile, Shared& shared, Turn& turn) {
  if constexpr (sizeof(Out) == 4) {
    switch (tile.problem->tile_outputs) {
      case 240:
        return multiply_tile<T, Out, 240>(tile, shared, turn);
      case 128:
        return multiply_tile<T, Out, 128>(tile, shared, turn);
      case 48:
        return multiply_tile<T, Out, 48>(tile, shared, turn);
      default:
        return multiply_tile<T, Out, 16>(tile, shared, turn);
    }
  } else {
    switch (tile.problem->tile_outputs) {
      case 256:
        return multiply_tile<T, Out, 256>(tile, shared, turn);
      case 128:
        return multiply_tile<T, Out, 128>(tile, shared, turn);
      default:
        return multiply_tile<T, Out, 64>(tile, shared, turn);
    }
  }
}

template <class T, class Out>
__global__ void __cluster_dims__(kBlocks, 1, 1) __launch_bounds__(kThreads, 1)
    convolve_group(const __grid_constant__ Group group) {
  extern __shared__ std::byte memory[];
  Shared& shared = *reinterpret_cast<Shared*>(memory + (1024 - shared_address(memory) % 1024) % 1024);
  const unsigned rank = cluster_rank();
  if (threadIdx.x == 0) {
    for (int s = 0; s < kStages; ++s) {
      init_barrier(&shared.full[s], 1);
      init_barrier(&shared.empty[s], kBlocks * kMultipliers * (kWarpgroup / 32));
    }
    publish_barriers();
  }
  if (threadIdx.x < group.count) {
    prefetch_map(&group.problems[threadIdx.x].x);
    prefetch_map(&group.problems[threadIdx.x].weight);
  }
  __syncthreads();
  sync_cluster();
  const int cluster = static_cast<int>(blockIdx.x / kBlocks),
            clusters = static_cast<int>(gridDim.x / kBlocks);
  Turn turn;
  // Each role ends for itself: where they met again, the compiler would not give one more registers than the
  // other. Clusters end together, since the other block may still copy here, and arrive at barriers.
  if (threadIdx.x < kWarpgroup) {
    give_up_registers<kFewRegisters>();
    if (threadIdx.x == 0)
      for (int pair = cluster; pair < group.pairs; pair += clusters)
        copy_tile(Tile(group, pair, rank), rank, shared, turn);
    __syncwarp();
    sync_cluster();
  } else {
    take_registers<kManyRegisters>();
    for (int pair = cluster; pair < group.pairs; pair += clusters)
      multiply<T, Out>(Tile(group, pair, rank), shared, turn);
    sync_cluster();
  }
}

// --- Host
// -----------------------------------------------------------------------------------------------------

template <class Function>
Function driver_function(const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  cuda_check(cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &found), name);
  if (found != cudaDriverEntryPointSuccess) fail(ErrorCode::kDevice, "the NVIDIA driver lacks {}", name);
  return reinterpret_cast<Function>(function);
}

void encoded(CUresult result, const char* what) {
  if (result != CUDA_SUCCESS)
    fail(ErrorCode::kDevice, "a tensor map of {} failed with status {}", what, static_cast<int>(result));
}

CUtensorMapDataType map_type(DType type) {
  return type == DType::kF16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
}

CUtensorMap pixel_map(const GroupedConv& c, DType type) {
  static const auto encode = driver_function<decltype(&cuTensorMapEncodeIm2col)>("cuTensorMapEncodeIm2col");
  const auto size = [](std::int64_t v) { return static_cast<cuuint64_t>(v); };
  const cuuint64_t dims[]{size(c.channels), size(c.width), size(c.height), size(c.images)};
  const cuuint64_t strides[]{dims[0] * 2, dims[0] * dims[1] * 2, dims[0] * dims[1] * dims[2] * 2};
  // Where windows begin: from `lower` of the first pixel to `upper` of the last.
  const int border = c.side / 2, lower[]{-border, -border};
  const int upper[]{border - (c.side - 1), border - (c.side - 1)};
  const cuuint32_t steps[]{1, 1, 1, 1};
  CUtensorMap out{};
  encoded(encode(&out, map_type(type), 4, const_cast<void*>(c.x), dims, strides, lower, upper, kDepth,
                 kTilePixels, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
          "pixels");
  return out;
}

std::int64_t packed_outputs(std::int64_t outputs, bool f32_out) {
  const int group = packed_group(f32_out);
  return (outputs + group - 1) / group * group;
}

CUtensorMap weight_map(const GroupedConv& c, DType type, int tile_outputs) {
  static const auto encode = driver_function<decltype(&cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled");
  const cuuint64_t dims[]{static_cast<cuuint64_t>(c.side * c.side * c.channels),
                          static_cast<cuuint64_t>(packed_outputs(c.outputs, c.f32_out))};
  const cuuint64_t strides[]{dims[0] * 2};
  const cuuint32_t box[]{kDepth, static_cast<cuuint32_t>(tile_outputs / kBlocks)}, steps[]{1, 1};
  CUtensorMap out{};
  encoded(encode(&out, map_type(type), 2, const_cast<void*>(c.weight), dims, strides, box, steps,
                 CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
          "weights");
  return out;
}

// The width that leaves the fewest columns without an output; of equal ones the largest.
int tile_outputs_of(const GroupedConv& c) {
  const std::span<const int> widths = c.f32_out ? std::span<const int>(kFloatWidths) : kHalfWidths;
  const auto columns = [&](int width) { return (c.outputs + width - 1) / width * width; };
  return *std::min_element(widths.begin(), widths.end(),
                           [&](int a, int b) { return columns(a) < columns(b); });
}

Problem problem_of(const GroupedConv& c, DType type) {
  const int width = tile_outputs_of(c);
  return {.x = pixel_map(c, type),
          .weight = weight_map(c, type, width),
          .y = c.y,
          .bias = c.bias,
          .pixels = static_cast<int>(c.images * c.height * c.width),
          .height = static_cast<int>(c.height),
          .width = static_cast<int>(c.width),
          .outputs = static_cast<int>(c.outputs),
          .side = c.side,
          .channels = static_cast<int>(c.channels),
          .chunks = static_cast<int>((c.channels + kDepth - 1) / kDepth),
          .tile_outputs = width,
          .output_tiles = static_cast<int>((c.outputs + width - 1) / width),
          .first_pair = 0,
          .activation = c.activation};
}

Group group_of(std::span<const GroupedConv> convs, DType type) {
  Group out{};
  for (const GroupedConv& c : convs) out.problems[out.count++] = problem_of(c, type);
  // The longest tiles first; those of neighbouring convolutions of one map stay near each other.
  std::stable_sort(out.problems, out.problems + out.count, [](const Problem& a, const Problem& b) {
    const auto cost = [](const Problem& p) { return p.tile_outputs * p.side * p.side * p.chunks; };
    return cost(a) > cost(b);
  });
  constexpr int kPair = kBlocks * kTilePixels;
  for (int i = 0; i < out.count; ++i) {
    Problem& p = out.problems[i];
    p.first_pair = out.pairs;
    out.pairs += (p.pixels + kPair - 1) / kPair * p.output_tiles;
  }
  return out;
}

template <class T, class Out>
void launch(const Group& group, int multiprocessors, cudaStream_t stream) {
  cuda_check(
      cudaFuncSetAttribute(convolve_group<T, Out>, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes),
      "grouped convolutions");
  const int clusters = std::min(group.pairs, multiprocessors / kBlocks);
  convolve_group<T, Out>
      <<<static_cast<unsigned>(clusters * kBlocks), kThreads, kSharedBytes, stream>>>(group);
  cuda_check_launch("grouped convolutions");
}

}  // namespace

bool can_group(const GroupedConv& c) {
  return (c.side == 1 || c.side == 3) && c.channels > 0 && c.channels % 8 == 0 && c.images > 0 &&
         c.height > 0 && c.width > 0 && c.outputs > 0 && c.images * c.height * c.width < (1 << 30) &&
         c.outputs < (1 << 20);
}

Tensor grouped_conv_weight(const Tensor& weight, bool f32_out) {
  const std::int64_t outputs = weight.dim(0), channels = weight.dim(1), taps = weight.dim(2) * weight.dim(3);
  const std::int64_t group = packed_group(f32_out), lane = group / 4;  // neighbours that a lane has
  Tensor out = Tensor::zeros(DType::kF32, {packed_outputs(outputs, f32_out), taps * channels});
  const auto from = weight.values<float>();
  const auto to = out.mutable_values<float>();
  for (std::int64_t row = 0; row < out.dim(0); ++row) {
    // Column 8 j + 2 t + i of a group is its output `lane` t + 2 j + i.
    const std::int64_t column = row % group, j = column / 8, t = column % 8 / 2;
    const std::int64_t output = row - column + lane * t + 2 * j + column % 2;
    if (output >= outputs) continue;
    for (std::int64_t tap = 0; tap < taps; ++tap)
      for (std::int64_t c = 0; c < channels; ++c)
        to[static_cast<std::size_t>((row * taps + tap) * channels + c)] =
            from[static_cast<std::size_t>((output * channels + c) * taps + tap)];
  }
  return out;
}

void launch_conv_group(std::span<const GroupedConv> convs, DType type, int multiprocessors,
                       cudaStream_t stream) {
  check(!convs.empty() && convs.size() <= kMostGroupedConvs, "a group of {} convolutions", convs.size());
  const bool f32_out = convs.front().f32_out;
  check(std::all_of(convs.begin(), convs.end(), [&](const GroupedConv& c) { return c.f32_out == f32_out; }),
        "a group of several types");
  const Group group = group_of(convs, type);
  const auto launch_to = [&]<class T>(T) {
    f32_out ? launch<T, float>(group, multiprocessors, stream) : launch<T, T>(group, multiprocessors, stream);
  };
  type == DType::kF16 ? launch_to(__half{}) : launch_to(__nv_bfloat16{});
}

}  // namespace osprey
