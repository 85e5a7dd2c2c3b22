// As matrix products, of the pixels' windows by the weights. A cluster of two blocks makes 2 x 128
// neighbouring pixels of one convolution by up to 256 outputs: the tensor memory engine gathers the windows
// (in its im2col mode, which knows borders and walks from row to row and image to image) and copies each
// weight once for both blocks. In a block, one thread keeps four steps of copies under way (six where tiles
// are narrow), each 64 channels of one tap (beyond the last channel the engine gives zeros, which take
// whatever weight stands there away), and two warpgroups multiply 64 pixels each. The host chooses how wide
// the tiles of each convolution are, narrower where wide ones would leave clusters idle, and which cluster
// makes which.
//
// Every sum runs over taps, then channels, whatever the tile: the result of a pixel depends on nothing but
// its window, in particular not on how many images there are.
#include <algorithm>
#include <array>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <span>
#include <vector>

#include "cuda/activations.cuh"
#include "cuda/check.h"
#include "cuda/hopper/conv_group.h"
#include "cuda/hopper/instructions.cuh"
#include "cuda/numbers.cuh"

namespace osprey {
namespace {

using namespace hopper;

constexpr int kTilePixels = 128, kDepth = 64;  // of a block's tile, and of a step
constexpr int kWide = 256, kNarrow = 128;      // outputs of a tile at most, a kernel for each
constexpr int kBlocks = 2;                     // of a cluster
constexpr int kWarpgroup = 128, kMultipliers = 2, kThreads = (1 + kMultipliers) * kWarpgroup;
constexpr int kRowBytes = kDepth * 2, kPixelBytes = kTilePixels * kRowBytes;
constexpr int kMostClusters = 128, kMostListed = 1024;
// Registers of a thread that copies, and of one that multiplies; 65536 in all.
constexpr int kFewRegisters = 40, kManyRegisters = 232;

// Outputs of a tile, by the type of the result: the widths that kernels exist for.
constexpr std::array<int, 3> kHalfWidths{256, 128, 64};
constexpr std::array<int, 6> kFloatWidths{240, 192, 128, 64, 48, 16};

// Outputs whose order the packed weight changes together, so that a lane has 16 or 32 neighbouring bytes.
constexpr int packed_group(bool f32_out) { return f32_out ? 16 : 32; }

struct Problem {
  CUtensorMap x, weight;
  void* y;
  const float* bias;
  int pixels, height, width, outputs;             // of the result
  int side, stride, top, left, channels, chunks;  // side: of the window; chunks: of kDepth channels
  int first_tap, end_tap;
  int tile_outputs, output_tiles, first_pair;
  Activation activation;
};

struct Group {
  Problem problems[kMostGroupedConvs];
  int count, pairs;  // pairs: of tiles, one a cluster
  // Of cluster c: those listed from begin[c] to begin[c + 1]. Where there are too many to list, every
  // clusters-th.
  bool listed;
  std::uint16_t begin[kMostClusters + 1], list[kMostListed];
};

// Steps under way, of tiles of up to kOutputs outputs: as many as there is memory for.
constexpr int stages(int outputs) { return (192 << 10) / (kPixelBytes + outputs * kRowBytes); }

template <int kOutputs>
struct Shared {
  static constexpr int kStages = stages(kOutputs);
  std::byte pixels[kStages][kPixelBytes];
  std::byte weights[kStages][kOutputs * kRowBytes];
  std::uint64_t full[kStages], empty[kStages];
};
template <int kOutputs>
constexpr int kSharedBytes = sizeof(Shared<kOutputs>) + 1024;  // begins at a multiple of 1024

// Which stage is next, and in which parity of its barriers.
template <int kStages>
struct Turn {
  int stage = 0;
  unsigned parity = 0;
  __device__ void advance() {
    if (++stage == kStages) stage = 0, parity ^= 1;
  }
};

// The pairs of a cluster, one after the other.
template <class Body>
__device__ void for_each_pair(const Group& group, Body&& body) {
  const int cluster = static_cast<int>(blockIdx.x / kBlocks),
            clusters = static_cast<int>(gridDim.x / kBlocks);
  const int end = group.listed ? group.begin[cluster + 1] : group.pairs;
  for (int i = group.listed ? group.begin[cluster] : cluster; i < end; i += group.listed ? 1 : clusters)
    body(group.listed ? group.list[i] : i);
}

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
  __device__ int steps() const { return (problem->end_tap - problem->first_tap) * problem->chunks; }
};

// Copies what a tile's steps need, one after the other, as stages become free.
template <int kOutputs>
__device__ void copy_tile(const Tile& tile, unsigned rank, Shared<kOutputs>& shared,
                          Turn<stages(kOutputs)>& turn) {
  const Problem& p = *tile.problem;
  const int area = p.height * p.width, n = tile.pixel / area, place = tile.pixel - n * area;
  const int row = place / p.width, y = row * p.stride - p.top,
            x = (place - row * p.width) * p.stride - p.left;
  const int half = p.tile_outputs / kBlocks, begin = static_cast<int>(rank) * half;
  const unsigned bytes = static_cast<unsigned>(kPixelBytes + p.tile_outputs * kRowBytes);
  for (int tap = p.first_tap; tap < p.end_tap; ++tap) {
    const int dy = tap / p.side, dx = tap - dy * p.side;
    for (int c = 0; c < p.chunks; ++c) {
      await(&shared.empty[turn.stage], turn.parity ^ 1);
      expect_bytes(&shared.full[turn.stage], bytes);
      copy_pixels(shared.pixels[turn.stage], &p.x, &shared.full[turn.stage], c * kDepth, x, y, n,
                  static_cast<unsigned>(dx), static_cast<unsigned>(dy));
      copy_box(shared.weights[turn.stage] + begin * kRowBytes, &p.weight, &shared.full[turn.stage],
               tap * p.channels + c * kDepth, tile.output + begin, (1u << kBlocks) - 1);
      turn.advance();
    }
  }
}

// The warp has read the stage: both blocks may copy into it, since each brings half of the other's weights.
__device__ void release(std::uint64_t* empty) {
  const unsigned lane = threadIdx.x % 32;
  if (lane < kBlocks) arrive_at(empty, lane);
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
  if (live >= kCount && reinterpret_cast<std::uintptr_t>(to) % 8 == 0) {
    alignas(8) T packed[kCount];
#pragma unroll
    for (int k = 0; k < kCount; ++k) packed[k] = narrow<T>(values[k]);
#pragma unroll
    for (int i = 0; i < 2; ++i) reinterpret_cast<uint2*>(to)[i] = reinterpret_cast<const uint2*>(packed)[i];
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

template <class T, class Out, int kOutputs, int kWidest>
__device__ void multiply_tile(const Tile& tile, Shared<kWidest>& shared, Turn<stages(kWidest)>& turn) {
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
      release(&shared.empty[before]);
    }
    before = turn.stage;
    turn.advance();
  }
  await_products<0>();
  pin(sums);
  release(&shared.empty[before]);
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32 % 4);
  store_tile<Out>(tile, sums, warpgroup * 64 + warp * 16 + lane / 4);
}

// tile.problem->tile_outputs is one of the widths from `at` on.
template <class T, class Out, std::size_t at, int kWidest>
__device__ void multiply(const Tile& tile, Shared<kWidest>& shared, Turn<stages(kWidest)>& turn) {
  constexpr auto widths = [] {
    if constexpr (sizeof(Out) == 4)
      return kFloatWidths;
    else
      return kHalfWidths;
  }();
  if constexpr (at + 1 < widths.size())
    if (widths[at] > kWidest || tile.problem->tile_outputs != widths[at])
      return multiply<T, Out, at + 1>(tile, shared, turn);
  if constexpr (widths[at] <= kWidest) multiply_tile<T, Out, widths[at]>(tile, shared, turn);
}

template <class T, class Out, int kWidest>
__global__ void __cluster_dims__(kBlocks, 1, 1) __launch_bounds__(kThreads, 1)
    convolve_group(const __grid_constant__ Group group) {
  extern __shared__ std::byte memory[];
  auto& shared = *reinterpret_cast<Shared<kWidest>*>(memory + (1024 - shared_address(memory) % 1024) % 1024);
  const unsigned rank = cluster_rank();
  if (threadIdx.x == 0) {
    for (int s = 0; s < stages(kWidest); ++s) {
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
  Turn<stages(kWidest)> turn;
  // Each role ends for itself: where they met again, the compiler would not give one more registers than the
  // other. Clusters end together, since the other block may still copy here, and arrive at barriers.
  if (threadIdx.x < kWarpgroup) {
    give_up_registers<kFewRegisters>();
    if (threadIdx.x == 0)
      for_each_pair(group, [&](int pair) { copy_tile(Tile(group, pair, rank), rank, shared, turn); });
    __syncwarp();
    sync_cluster();
  } else {
    take_registers<kManyRegisters>();
    for_each_pair(group, [&](int pair) { multiply<T, Out, 0>(Tile(group, pair, rank), shared, turn); });
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

// Pixels around a map.
int top_of(const GroupedConv& c) { return c.side == 3 ? c.top : 0; }
int left_of(const GroupedConv& c) { return c.side == 3 ? c.left : 0; }

std::int64_t out_height(const GroupedConv& c) { return (c.height + c.stride - 1) / c.stride; }
std::int64_t out_width(const GroupedConv& c) { return (c.width + c.stride - 1) / c.stride; }
std::int64_t out_pixels(const GroupedConv& c) { return c.images * out_height(c) * out_width(c); }

int taps_of(const GroupedConv& c) { return c.taps == 0 ? c.side * c.side : c.taps; }

CUtensorMap pixel_map(const GroupedConv& c, DType type) {
  static const auto encode = driver_function<decltype(&cuTensorMapEncodeIm2col)>("cuTensorMapEncodeIm2col");
  const auto size = [](std::int64_t v) { return static_cast<cuuint64_t>(v); };
  const cuuint64_t dims[]{size(c.channels), size(c.width), size(c.height), size(c.images)};
  const cuuint64_t strides[]{dims[0] * 2, dims[0] * dims[1] * 2, dims[0] * dims[1] * dims[2] * 2};
  // Windows begin so far from the first and from the last pixel, every stride-th.
  const auto stride = static_cast<cuuint32_t>(c.stride);
  const int corner[]{-left_of(c), -top_of(c)};
  const cuuint32_t steps[]{1, stride, stride, 1};
  CUtensorMap out{};
  encoded(encode(&out, map_type(type), 4, const_cast<void*>(c.x), dims, strides, corner, corner, kDepth,
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

int steps_of(const GroupedConv& c) {
  return static_cast<int>(taps_of(c) * ((c.channels + kDepth - 1) / kDepth));
}

Problem problem_of(const GroupedConv& c, DType type, int width) {
  return {.x = pixel_map(c, type),
          .weight = weight_map(c, type, width),
          .y = c.y,
          .bias = c.bias,
          .pixels = static_cast<int>(out_pixels(c)),
          .height = static_cast<int>(out_height(c)),
          .width = static_cast<int>(out_width(c)),
          .outputs = static_cast<int>(c.outputs),
          .side = c.side,
          .stride = c.stride,
          .top = top_of(c),
          .left = left_of(c),
          .channels = static_cast<int>(c.channels),
          .chunks = static_cast<int>((c.channels + kDepth - 1) / kDepth),
          .first_tap = c.first_tap,
          .end_tap = c.first_tap + taps_of(c),
          .tile_outputs = width,
          .output_tiles = static_cast<int>((c.outputs + width - 1) / width),
          .first_pair = 0,
          .activation = c.activation};
}

// How wide the tiles of each convolution are, in the order of their pairs, and who makes which: a guess of
// what is fastest.
class Division {
 public:
  Division(std::span<const GroupedConv> convs, int clusters)
      : convs_(convs.begin(), convs.end()), clusters_(clusters) {
    const bool f32_out = convs.front().f32_out;
    const std::span<const int> all = f32_out ? std::span<const int>(kFloatWidths) : kHalfWidths;
    double least = 0;
    for (const int widest : {kWide, kNarrow}) {
      std::vector<int> widths;
      std::copy_if(all.begin(), all.end(), std::back_inserter(widths), [&](int w) { return w <= widest; });
      std::vector<int> chosen(convs.size(), widths.front());
      for (std::size_t i = 0; i < convs.size(); ++i) chosen[i] = alone(convs[i], widths, widest);
      double cost = improve(chosen, widths, widest);
      if (!widths_.empty() && cost >= least) continue;
      least = cost;
      widths_ = chosen;
      widest_ = widest;
    }
  }

  int widest() const { return widest_; }
  int width(std::size_t conv) const { return widths_[conv]; }
  double tile_cost(std::size_t conv) const { return tile_cost(convs_[conv], widths_[conv], widest_, busy()); }

  static int pairs(const GroupedConv& c, int width) {
    constexpr std::int64_t kPair = kBlocks * kTilePixels;
    return static_cast<int>((out_pixels(c) + kPair - 1) / kPair * ((c.outputs + width - 1) / width));
  }

 private:
  // Clocks that a tile takes, as measured roughly. A step waits for the tensor cores, for their reads of
  // shared memory, for a copy's latency over the steps under way, or for the cache that all busy blocks read;
  // a weight is read once for both blocks.
  static double tile_cost(const GroupedConv& c, int width, int widest, int busy) {
    constexpr double kLatency = 2000, kCacheBytes = 3300, kBegin = 1500, kStoredBytes = 40;
    const double step = std::max({4.0 * width, 128 + 2.0 * width, kLatency / stages(widest),
                                  busy * (kPixelBytes + width * kRowBytes / kBlocks) / kCacheBytes});
    return kBegin + steps_of(c) * step + kTilePixels * width * (c.f32_out ? 4 : 2) / kStoredBytes;
  }

  int busy() const {
    int all = 0;
    for (std::size_t i = 0; i < convs_.size(); ++i) all += pairs(convs_[i], widths_[i]);
    return kBlocks * std::min(all, clusters_);
  }

  int alone(const GroupedConv& c, const std::vector<int>& widths, int widest) const {
    const auto cost = [&](int w) { return pairs(c, w) * tile_cost(c, w, widest, kBlocks * clusters_); };
    return *std::min_element(widths.begin(), widths.end(), [&](int a, int b) { return cost(a) < cost(b); });
  }

  // The longest way of a cluster, where each takes the next tile when it is free, the longest first.
  double longest(const std::vector<int>& widths, int widest) const {
    int all = 0;
    for (std::size_t i = 0; i < convs_.size(); ++i) all += pairs(convs_[i], widths[i]);
    std::vector<std::pair<double, int>> tiles;  // cost, how many
    for (std::size_t i = 0; i < convs_.size(); ++i)
      tiles.emplace_back(tile_cost(convs_[i], widths[i], widest, kBlocks * std::min(all, clusters_)),
                         pairs(convs_[i], widths[i]));
    double sum = 0;
    for (const auto& [cost, count] : tiles) sum += cost * count;
    if (all > kMostListed) return sum / clusters_;
    std::sort(tiles.begin(), tiles.end(), std::greater<>());
    std::vector<double> busy(static_cast<std::size_t>(clusters_));  // a heap, the least first
    for (const auto& [cost, count] : tiles)
      for (int k = 0; k < count; ++k) {
        std::pop_heap(busy.begin(), busy.end(), std::greater<>());
        busy.back() += cost;
        std::push_heap(busy.begin(), busy.end(), std::greater<>());
      }
    return *std::max_element(busy.begin(), busy.end());
  }

  // Tries other widths, a convolution at a time.
  double improve(std::vector<int>& chosen, const std::vector<int>& widths, int widest) const {
    double least = longest(chosen, widest);
    for (int& width : chosen) {
      int best = width;
      for (const int other : widths) {
        width = other;
        if (const double cost = longest(chosen, widest); cost < least) least = cost, best = other;
      }
      width = best;
    }
    return least;
  }

  std::vector<GroupedConv> convs_;
  int clusters_, widest_ = kWide;
  std::vector<int> widths_;
};

// Thinking of one takes as long as the convolutions: it is done once for the same ones.
std::shared_ptr<const Division> division_of(std::span<const GroupedConv> convs, int clusters) {
  std::vector<std::int64_t> key{clusters, convs.front().f32_out};
  for (const GroupedConv& c : convs)
    key.insert(key.end(), {out_pixels(c), c.channels, c.outputs, taps_of(c)});
  static std::mutex mutex;
  static std::map<std::vector<std::int64_t>, std::shared_ptr<const Division>> known;
  const std::lock_guard lock(mutex);
  auto& division = known[key];
  if (!division) division = std::make_shared<const Division>(convs, clusters);
  return division;
}

// The tiles of one launch, the longest first; those of neighbouring convolutions of one map stay near each
// other.
struct Plan {
  Group group{};
  int widest = kWide, clusters = 0;
};

// Each cluster takes the next tile when it is free, by what tiles are thought to cost.
void list_pairs(Plan& plan, const std::vector<double>& costs) {
  Group& group = plan.group;
  group.listed = group.pairs <= kMostListed;
  if (!group.listed) return;
  std::vector<double> busy(static_cast<std::size_t>(plan.clusters));
  std::vector<std::vector<std::uint16_t>> pairs(busy.size());
  for (int i = 0, pair = 0; i < group.count; ++i) {
    const int end = i + 1 < group.count ? group.problems[i + 1].first_pair : group.pairs;
    for (; pair < end; ++pair) {
      const auto least = std::min_element(busy.begin(), busy.end());
      *least += costs[static_cast<std::size_t>(i)];
      pairs[static_cast<std::size_t>(least - busy.begin())].push_back(static_cast<std::uint16_t>(pair));
    }
  }
  std::uint16_t at = 0;
  for (std::size_t c = 0; c < pairs.size(); ++c) {
    group.begin[c] = at;
    for (const std::uint16_t pair : pairs[c]) group.list[at++] = pair;
  }
  group.begin[pairs.size()] = at;
}

Plan plan_of(std::span<const GroupedConv> convs, DType type, int multiprocessors) {
  const int most = std::clamp(multiprocessors / kBlocks, 1, kMostClusters);
  const auto known = division_of(convs, most);
  const Division& division = *known;
  std::vector<std::size_t> order(convs.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return division.tile_cost(a) > division.tile_cost(b);
  });
  Plan out;
  out.widest = division.widest();
  std::vector<double> costs;
  for (const std::size_t i : order) {
    Problem& p = out.group.problems[out.group.count++] = problem_of(convs[i], type, division.width(i));
    p.first_pair = out.group.pairs;
    out.group.pairs += Division::pairs(convs[i], division.width(i));
    costs.push_back(division.tile_cost(i));
  }
  out.clusters = std::min(out.group.pairs, most);
  list_pairs(out, costs);
  return out;
}

template <class T, class Out, int kWidest>
void launch(const Plan& plan, cudaStream_t stream) {
  constexpr int kBytes = kSharedBytes<kWidest>;
  cuda_check(cudaFuncSetAttribute(convolve_group<T, Out, kWidest>,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
             "grouped convolutions");
  convolve_group<T, Out, kWidest>
      <<<static_cast<unsigned>(plan.clusters * kBlocks), kThreads, kBytes, stream>>>(plan.group);
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
  const Plan plan = plan_of(convs, type, multiprocessors);
  const auto launch_as = [&]<class T, class Out>(T, Out) {
    plan.widest == kWide ? launch<T, Out, kWide>(plan, stream) : launch<T, Out, kNarrow>(plan, stream);
  };
  const auto launch_to = [&]<class T>(T zero) { f32_out ? launch_as(zero, float{}) : launch_as(zero, zero); };
  type == DType::kF16 ? launch_to(__half{}) : launch_to(__nv_bfloat16{});
}

}  // namespace osprey
