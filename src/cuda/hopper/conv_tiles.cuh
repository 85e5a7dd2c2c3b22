// What convolutions on a Hopper GPU share whatever they multiply: matrix products, of the pixels' windows by
// the weights. A cluster of two blocks makes 2 x 128 neighbouring pixels of one convolution by up to 256
// outputs: the tensor memory engine gathers the windows (in its im2col mode, which knows borders and walks
// from row to row and image to image) and copies each weight once for both blocks. In a block, one thread
// keeps some steps of copies under way, each 128 bytes of channels of one tap (beyond the last channel the
// engine gives zeros, which take whatever weight stands there away), and two warpgroups multiply 64 pixels
// each. The host chooses how wide the tiles of each convolution are, narrower where wide ones would leave
// clusters idle, and which cluster makes which.
//
// Every sum runs over taps, then channels, whatever the tile: the result of a pixel depends on nothing but
// its window, in particular not on how many images there are.
//
// What is multiplied, and what becomes of the sums, is a Kind:
//   Operand, Sum   types of factors and sums; kOperand the former's size
//   Result         of a problem: where its result goes, and what is done to it before
//   kMayBeginEarly whether launches may begin while the kernel before them runs (cuda/early_launch.cuh)
//   kWidths        outputs of a tile: what products exist for, the widest first
//   Finish<n, early>  of a thread and a tile of n outputs: made before the products, with what is read early
//                  where there are registers for it, store(sums) after them
#pragma once

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

#include "core/tensor.h"
#include "cuda/check.h"
#include "cuda/early_launch.cuh"
#include "cuda/hopper/conv_shape.h"
#include "cuda/hopper/instructions.cuh"

namespace osprey::hopper {

inline constexpr int kMostProblems = 16;
inline constexpr int kTilePixels = 128;  // of a block's tile
inline constexpr int kBlocks = 2;        // of a cluster
inline constexpr int kWarpgroup = 128, kMultipliers = 2;
inline constexpr int kRowBytes = 128, kPixelBytes = kTilePixels * kRowBytes;  // of a step
inline constexpr int kMostClusters = 160, kMostListed = 1024;

// Launches of fewer clocks begin while the kernel before them runs: Mask R-CNN's layers of one photo took 53
// us less, those of 32 photos 1 % longer.
inline constexpr double kShortLaunch = 55000;

// Registers of a lone block's threads that copy, and of those that multiply; 65536 in all.
inline constexpr int kFewRegisters = 40, kManyRegisters = 232;

// Tiles of up to `widest` outputs by blocks of which `resident` share a multiprocessor.
struct Tiles {
  int widest, resident;
  constexpr int stage_bytes() const { return kPixelBytes + widest * kRowBytes; }
  // Steps under way: as many as there is memory for.
  constexpr int stages() const { return (lone() ? 192 << 10 : 108 << 10) / stage_bytes(); }
  // A lone block gives the registers of those that copy, a warpgroup, to those that multiply; of two, a warp
  // copies, and all have what there is.
  constexpr bool lone() const { return resident == 1; }
  constexpr int threads() const { return kMultipliers * kWarpgroup + (lone() ? kWarpgroup : 32); }
};

template <class Result>
struct Problem {
  CUtensorMap x, weight;
  const int* live;  // images that mean anything; null: all
  Result result;
  int pixels, height, width, outputs;             // of the result
  int side, stride, top, left, channels, chunks;  // side: of the window; chunks: of kRowBytes of channels
  int first_tap, end_tap;
  int tile_outputs, output_tiles, first_pair;
};

template <class Result>
struct Group {
  Problem<Result> problems[kMostProblems];
  int count, pairs;  // pairs: of tiles, one a cluster
  // Of cluster c: those listed from begin[c] to begin[c + 1]. Where there are too many to list, every
  // clusters-th.
  bool listed;
  std::uint16_t begin[kMostClusters + 1], list[kMostListed];
};

template <int kOutputs, int kStages>
struct Shared {
  std::byte pixels[kStages][kPixelBytes];
  std::byte weights[kStages][kOutputs * kRowBytes];
  std::uint64_t full[kStages], empty[kStages];
};

// Which stage is next, and in which parity of its barriers.
template <int kStages>
struct Turn {
  int stage = 0;
  unsigned parity = 0;
  __device__ void advance() {
    if (++stage == kStages) stage = 0, parity ^= 1;
  }
};

// A block's part of a pair of tiles.
template <class Result>
struct Tile {
  const Problem<Result>* problem;
  int pixel, output;  // the first ones

  __device__ Tile(const Group<Result>& group, int pair, unsigned rank) {
    int i = 0;
    while (i + 1 < group.count && group.problems[i + 1].first_pair <= pair) ++i;
    problem = &group.problems[i];
    const int at = pair - problem->first_pair, across = problem->output_tiles;
    pixel = (at / across * kBlocks + static_cast<int>(rank)) * kTilePixels;
    output = at % across * problem->tile_outputs;
  }
  // Whether either block's part means anything.
  __device__ bool live(unsigned rank) const {
    return !problem->live || pixel - static_cast<int>(rank) * kTilePixels <
                                 __ldg(problem->live) * (problem->height * problem->width);
  }
  __device__ int steps() const { return (problem->end_tap - problem->first_tap) * problem->chunks; }
};

// The tiles of a block, one after the other.
template <class Result, class Body>
__device__ void for_each_tile(const Group<Result>& group, unsigned rank, Body&& body) {
  const int cluster = static_cast<int>(blockIdx.x / kBlocks),
            clusters = static_cast<int>(gridDim.x / kBlocks);
  const int end = group.listed ? group.begin[cluster + 1] : group.pairs;
  for (int i = group.listed ? group.begin[cluster] : cluster; i < end; i += group.listed ? 1 : clusters) {
    const Tile<Result> tile(group, group.listed ? group.list[i] : i, rank);
    if (tile.live(rank)) body(tile);
  }
}

// Copies what a tile's steps need, one after the other, as stages become free.
template <class Kind, int kOutputs, int kStages>
__device__ void copy_tile(const Tile<typename Kind::Result>& tile, unsigned rank,
                          Shared<kOutputs, kStages>& shared, Turn<kStages>& turn) {
  constexpr int kDepth = kRowBytes / Kind::kOperand;
  const auto& p = *tile.problem;
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
__device__ inline void release(std::uint64_t* empty) {
  const unsigned lane = threadIdx.x % 32;
  if (lane < kBlocks) arrive_at(empty, lane);
}

template <class Kind, int kOutputs, bool kEarly, int kWidest, int kStages>
__device__ void multiply_tile(const Tile<typename Kind::Result>& tile, Shared<kWidest, kStages>& shared,
                              Turn<kStages>& turn) {
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int warpgroup = warp / 4, steps = tile.steps();
  typename Kind::template Finish<kOutputs, kEarly> finish(tile, warp * 16 + lane / 4);
  // Zeroed here: where the first product is a fresh one, the compiler makes products wait for each other.
  typename Kind::Sum sums[kOutputs / 2] = {};
  int before = 0;
#pragma unroll 1  // copies of the loop would each want the sums in registers of their own
  for (int step = 0; step < steps; ++step) {
    await(&shared.full[turn.stage], turn.parity);
    std::uint64_t a = matrix_descriptor(shared.pixels[turn.stage] + warpgroup * (kPixelBytes / kMultipliers));
    std::uint64_t b = matrix_descriptor(shared.weights[turn.stage]);
    pin(sums);
    begin_products();
#pragma unroll
    for (int k = 0; k < kRowBytes / kProductBytes; ++k, a += kDescriptorStep, b += kDescriptorStep)
      WarpgroupProduct<typename Kind::Operand, kOutputs>::add(sums, a, b, false);
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
  finish.store(sums);
}

// tile.problem->tile_outputs is one of the widths from `at` on.
template <class Kind, std::size_t at, bool kEarly, int kWidest, int kStages>
__device__ void multiply(const Tile<typename Kind::Result>& tile, Shared<kWidest, kStages>& shared,
                         Turn<kStages>& turn) {
  constexpr auto widths = Kind::kWidths;
  if constexpr (at + 1 < widths.size())
    if (widths[at] > kWidest || tile.problem->tile_outputs != widths[at])
      return multiply<Kind, at + 1, kEarly>(tile, shared, turn);
  if constexpr (widths[at] <= kWidest) multiply_tile<Kind, widths[at], kEarly>(tile, shared, turn);
}

template <class Kind, int kWidest, int kResident>
__global__ void __cluster_dims__(kBlocks, 1, 1)
    __launch_bounds__(Tiles{kWidest, kResident}.threads(), kResident)
        convolve(const __grid_constant__ Group<typename Kind::Result> group) {
  constexpr Tiles kTiles{kWidest, kResident};
  constexpr int kStages = kTiles.stages();
  extern __shared__ std::byte memory[];
  auto& shared =
      *reinterpret_cast<Shared<kWidest, kStages>*>(memory + (1024 - shared_address(memory) % 1024) % 1024);
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
  if constexpr (Kind::kMayBeginEarly) {
    begin_next_launch();
    await_launch_before();
  }
  Turn<kStages> turn;
  // Each role ends for itself: where they met again, the compiler would not give one more registers than the
  // other. Clusters end together, since the other block may still copy here, and arrive at barriers.
  if (threadIdx.x >= kMultipliers * kWarpgroup) {
    if constexpr (kTiles.lone()) give_up_registers<kFewRegisters>();
    if (threadIdx.x == kMultipliers * kWarpgroup)
      for_each_tile(group, rank, [&](const auto& tile) { copy_tile<Kind>(tile, rank, shared, turn); });
    __syncwarp();
    sync_cluster();
  } else {
    if constexpr (kTiles.lone()) take_registers<kManyRegisters>();
    for_each_tile(group, rank,
                  [&](const auto& tile) { multiply<Kind, 0, kTiles.lone()>(tile, shared, turn); });
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

inline void encoded(CUresult result, const char* what) {
  if (result != CUDA_SUCCESS)
    fail(ErrorCode::kDevice, "a tensor map of {} failed with status {}", what, static_cast<int>(result));
}

inline CUtensorMapDataType map_type(DType type) {
  switch (type) {
    case DType::kF16:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    case DType::kBF16:
      return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    default:
      return CU_TENSOR_MAP_DATA_TYPE_UINT8;
  }
}

// Channels of a step.
inline int depth_of(DType type) { return kRowBytes / static_cast<int>(size_of(type)); }

inline CUtensorMap pixel_map(const ConvShape& c, const void* x, DType type) {
  static const auto encode = driver_function<decltype(&cuTensorMapEncodeIm2col)>("cuTensorMapEncodeIm2col");
  const auto size = [](std::int64_t v) { return static_cast<cuuint64_t>(v); };
  const cuuint64_t dims[]{size(c.channels), size(c.width), size(c.height), size(c.images)};
  const cuuint64_t pixel = dims[0] * size_of(type);
  const cuuint64_t strides[]{pixel, pixel * dims[1], pixel * dims[1] * dims[2]};
  // Windows begin so far from the first and from the last pixel, every stride-th.
  const auto stride = static_cast<cuuint32_t>(c.stride);
  const int corner[]{-c.left_border(), -c.top_border()};
  const cuuint32_t steps[]{1, stride, stride, 1};
  CUtensorMap out{};
  encoded(encode(&out, map_type(type), 4, const_cast<void*>(x), dims, strides, corner, corner,
                 static_cast<cuuint32_t>(depth_of(type)), kTilePixels, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                 CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                 CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
          "pixels");
  return out;
}

// Of rows for `packed` outputs, whose order the Kind's results want.
inline CUtensorMap weight_map(const ConvShape& c, const void* weight, std::int64_t packed, DType type,
                              int tile_outputs) {
  static const auto encode = driver_function<decltype(&cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled");
  const cuuint64_t dims[]{static_cast<cuuint64_t>(c.side * c.side * c.channels),
                          static_cast<cuuint64_t>(packed)};
  const cuuint64_t strides[]{dims[0] * size_of(type)};
  const cuuint32_t box[]{static_cast<cuuint32_t>(depth_of(type)),
                         static_cast<cuuint32_t>(tile_outputs / kBlocks)},
      steps[]{1, 1};
  CUtensorMap out{};
  encoded(encode(&out, map_type(type), 2, const_cast<void*>(weight), dims, strides, box, steps,
                 CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
          "weights");
  return out;
}

// The weight in the order of the tensor cores' columns: outputs in groups of `group`, of which a lane has
// `group` / 4 neighbours, then taps, channels last; padded by zeros to whole groups. Row r is output
// `packed_output(r, group)`.
inline std::int64_t packed_outputs(std::int64_t outputs, int group) {
  return (outputs + group - 1) / group * group;
}
inline std::int64_t packed_output(std::int64_t row, int group) {
  // Column 8 j + 2 t + i of a group is its output `lane` t + 2 j + i.
  const std::int64_t lane = group / 4, column = row % group, j = column / 8, t = column % 8 / 2;
  return row - column + lane * t + 2 * j + column % 2;
}

template <class T>
Tensor packed_conv_weight(const Tensor& weight, DType type, int group) {
  const std::int64_t outputs = weight.dim(0), channels = weight.dim(1), taps = weight.dim(2) * weight.dim(3);
  Tensor out = Tensor::zeros(type, {packed_outputs(outputs, group), taps * channels});
  const auto from = weight.values<T>();
  const auto to = out.mutable_values<T>();
  for (std::int64_t row = 0; row < out.dim(0); ++row) {
    const std::int64_t output = packed_output(row, group);
    if (output >= outputs) continue;
    for (std::int64_t tap = 0; tap < taps; ++tap)
      for (std::int64_t c = 0; c < channels; ++c)
        to[static_cast<std::size_t>((row * taps + tap) * channels + c)] =
            from[static_cast<std::size_t>((output * channels + c) * taps + tap)];
  }
  return out;
}

// What dividing the work needs to know of a convolution.
struct Work {
  std::int64_t pixels, outputs;
  int steps;
  double stored;  // bytes an output, or what takes as long
};

inline Work work_of(const ConvShape& c, DType type, double stored) {
  const int depth = depth_of(type);
  return {c.out_pixels(), c.outputs, static_cast<int>(c.taps_used() * ((c.channels + depth - 1) / depth)),
          stored};
}

// How wide the tiles of each convolution are, in the order of their pairs, and who makes which: a guess of
// what is fastest.
class Division {
 public:
  // `widths`: those that there are; one of `choices`.
  Division(std::vector<Work> work, std::span<const int> widths, std::span<const Tiles> choices,
           int multiprocessors)
      : work_(std::move(work)) {
    double least = 0;
    for (const Tiles tiles : choices) {
      Division other(work_, widths, tiles, clusters_of(tiles, multiprocessors));
      const double cost = other.improve();
      if (!widths_.empty() && cost >= least) continue;
      least = clocks_ = cost;
      widths_ = other.widths_;
      tiles_ = tiles;
      clusters_ = other.clusters_;
    }
  }

  Tiles tiles() const { return tiles_; }
  int clusters() const { return clusters_; }
  double clocks() const { return clocks_; }  // of all of it
  int width(std::size_t conv) const { return widths_[conv]; }
  double tile_cost(std::size_t conv) const { return tile_cost(work_[conv], widths_[conv], busy()); }
  int pairs(std::size_t conv) const { return pairs(work_[conv], widths_[conv]); }

 private:
  Division(std::vector<Work> work, std::span<const int> widths, Tiles tiles, int clusters)
      : work_(std::move(work)), tiles_(tiles), clusters_(clusters) {
    std::copy_if(widths.begin(), widths.end(), std::back_inserter(available_),
                 [&](int w) { return w <= tiles.widest; });
    for (const Work& w : work_) widths_.push_back(alone(w));
  }

  static int clusters_of(Tiles tiles, int multiprocessors) {
    return std::clamp(multiprocessors * tiles.resident / kBlocks, 1, kMostClusters);
  }

  static int pairs(const Work& w, int width) {
    constexpr std::int64_t kPair = kBlocks * kTilePixels;
    return static_cast<int>((w.pixels + kPair - 1) / kPair * ((w.outputs + width - 1) / width));
  }

  // Clocks that a tile takes, as measured roughly. A step waits for the tensor cores, for their reads of
  // shared memory, for a copy's latency over the steps under way, or for the cache that all busy blocks read;
  // a weight is read once for both blocks.
  double tile_cost(const Work& w, int width, int busy) const {
    constexpr double kLatency = 2000, kCacheBytes = 3300, kBegin = 1500, kStoredBytes = 40;
    const double step = std::max({tiles_.resident * 4.0 * width, tiles_.resident * (128 + 2.0 * width),
                                  kLatency / tiles_.stages(),
                                  busy * (kPixelBytes + width * kRowBytes / kBlocks) / kCacheBytes});
    return kBegin + w.steps * step + kTilePixels * width * w.stored / kStoredBytes;
  }

  int busy() const {
    int all = 0;
    for (std::size_t i = 0; i < work_.size(); ++i) all += pairs(i);
    return kBlocks * std::min(all, clusters_);
  }

  int alone(const Work& w) const {
    const auto cost = [&](int width) { return pairs(w, width) * tile_cost(w, width, kBlocks * clusters_); };
    return *std::min_element(available_.begin(), available_.end(),
                             [&](int a, int b) { return cost(a) < cost(b); });
  }

  // The longest way of a cluster, where each takes the next tile when it is free, the longest first.
  double longest() const {
    const int busy_blocks = busy();
    int all = 0;
    double sum = 0;
    std::vector<std::pair<double, int>> tiles;  // cost, how many
    for (std::size_t i = 0; i < work_.size(); ++i) {
      const auto& [cost, count] = tiles.emplace_back(tile_cost(work_[i], widths_[i], busy_blocks), pairs(i));
      sum += cost * count;
      all += count;
    }
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
  double improve() {
    double least = longest();
    for (int& width : widths_) {
      int best = width;
      for (const int other : available_) {
        width = other;
        if (const double cost = longest(); cost < least) least = cost, best = other;
      }
      width = best;
    }
    return least;
  }

  std::vector<Work> work_;
  Tiles tiles_{};
  int clusters_ = 0;
  double clocks_ = 0;
  std::vector<int> available_, widths_;
};

// Thinking of one takes as long as the convolutions: it is done once for the same ones.
inline std::shared_ptr<const Division> division_of(const std::vector<Work>& work, std::span<const int> widths,
                                                   std::span<const Tiles> choices, int multiprocessors) {
  std::vector<std::int64_t> key{multiprocessors};
  key.insert(key.end(), widths.begin(), widths.end());
  for (const Tiles t : choices) key.insert(key.end(), {t.widest, t.resident});
  for (const Work& w : work)
    key.insert(key.end(), {w.pixels, w.outputs, w.steps, static_cast<std::int64_t>(w.stored * 16)});
  static std::mutex mutex;
  static std::map<std::vector<std::int64_t>, std::shared_ptr<const Division>> known;
  const std::lock_guard lock(mutex);
  auto& division = known[key];
  if (!division) division = std::make_shared<const Division>(work, widths, choices, multiprocessors);
  return division;
}

// The tiles of one launch, the longest first; those of neighbouring convolutions of one map stay near each
// other.
template <class Result>
struct Plan {
  Group<Result> group{};
  Tiles tiles{};
  int clusters = 0;
  bool is_short = false;
};

// Each cluster takes the next tile when it is free, by what tiles are thought to cost.
template <class Result>
void list_pairs(Plan<Result>& plan, const std::vector<double>& costs) {
  Group<Result>& group = plan.group;
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

// A convolution of a launch.
template <class Result>
struct Member {
  ConvShape shape;
  const void *x, *weight;
  const int* live;      // as of Problem
  std::int64_t packed;  // outputs of the weight
  double stored;        // as of Work
  Result result;
};

template <class Result>
Problem<Result> problem_of(const Member<Result>& m, DType type, int width) {
  const ConvShape& c = m.shape;
  const std::int64_t depth = depth_of(type);
  return {.x = pixel_map(c, m.x, type),
          .weight = weight_map(c, m.weight, m.packed, type, width),
          .live = m.live,
          .result = m.result,
          .pixels = static_cast<int>(c.out_pixels()),
          .height = static_cast<int>(c.out_height()),
          .width = static_cast<int>(c.out_width()),
          .outputs = static_cast<int>(c.outputs),
          .side = c.side,
          .stride = c.stride,
          .top = c.top_border(),
          .left = c.left_border(),
          .channels = static_cast<int>(c.channels),
          .chunks = static_cast<int>((c.channels + depth - 1) / depth),
          .first_tap = c.first_tap,
          .end_tap = c.first_tap + c.taps_used(),
          .tile_outputs = width,
          .output_tiles = static_cast<int>((c.outputs + width - 1) / width),
          .first_pair = 0};
}

template <class Result>
Plan<Result> plan_of(std::span<const Member<Result>> members, DType type, std::span<const int> widths,
                     std::span<const Tiles> choices, int multiprocessors) {
  check(!members.empty() && members.size() <= kMostProblems, "a group of {} convolutions", members.size());
  std::vector<Work> work;
  for (const Member<Result>& m : members) work.push_back(work_of(m.shape, type, m.stored));
  const auto known = division_of(work, widths, choices, multiprocessors);
  const Division& division = *known;
  std::vector<std::size_t> order(members.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return division.tile_cost(a) > division.tile_cost(b);
  });
  Plan<Result> out;
  out.tiles = division.tiles();
  out.is_short = division.clocks() < kShortLaunch;
  std::vector<double> costs;
  for (const std::size_t i : order) {
    auto& p = out.group.problems[out.group.count++] = problem_of(members[i], type, division.width(i));
    p.first_pair = out.group.pairs;
    out.group.pairs += division.pairs(i);
    costs.push_back(division.tile_cost(i));
  }
  out.clusters = std::min(out.group.pairs, division.clusters());
  list_pairs(out, costs);
  return out;
}

template <class Kind, int kWidest, int kResident>
void launch(const Plan<typename Kind::Result>& plan, cudaStream_t stream) {
  constexpr Tiles kTiles{kWidest, kResident};
  constexpr int kBytes = sizeof(Shared<kWidest, kTiles.stages()>) + 1024;  // begins at a multiple of 1024
  const auto kernel = convolve<Kind, kWidest, kResident>;
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
             "grouped convolutions");
  launch_early(kernel,
               {.blocks = static_cast<unsigned>(plan.clusters * kBlocks),
                .threads = kTiles.threads(),
                .shared_bytes = kBytes,
                .early = Kind::kMayBeginEarly && plan.is_short,
                .stream = stream},
               plan.group);
  cuda_check_launch("grouped convolutions");
}

}  // namespace osprey::hopper
