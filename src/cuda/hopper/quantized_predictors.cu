// A block keeps the weight in shared memory, and tiles of 8x8 pixels stream through it, with a border of one
// that is copied once for all nine taps: the rows that a tap multiplies are those pixels, so many further on.
// One thread has the tensor memory engine copy tiles; each warpgroup makes every n-th of them, from the
// products to floats that take the pixels' place; another thread has the engine store those.
#include <algorithm>
#include <array>

#include "cuda/hopper/conv_tiles.cuh"
#include "cuda/hopper/quantized_predictors.h"
#include "cuda/hopper/quantized_results.cuh"

namespace osprey {
namespace {

using namespace hopper;

constexpr int kSide = 8, kWindow = kSide + 2;  // of a tile, without and with its border
constexpr int kPixels = kSide * kSide;
constexpr int kSharedBytes = 226 << 10;  // of a block, the most
constexpr int kAlignment = 1024;         // of what is swizzled
constexpr int kRow = 128;                // channels that lie side by side
constexpr int kWindowRow = kWindow * kRow;
constexpr int kChunkBytes = (kWindow * kWindowRow + kAlignment - 1) / kAlignment * kAlignment;
constexpr int kTaps = 9;
constexpr int kMostWarpgroups = 5, kFewestWarpgroups = 2;
constexpr std::array kWidths{16, 48, 64};  // outputs that products exist for
constexpr int kOutputGroup = 8;            // outputs in their own order: a lane has pairs of them

constexpr int threads_of(int warpgroups) { return warpgroups * kWarpgroup + 64; }

struct Level {
  CUtensorMap x, y;
  int left, top, across, image_tiles, first_tile;
};

struct Predictors {
  CUtensorMap weight;
  Level levels[kMostQuantizedGrouped];
  const float4* terms[kMostQuantizedGrouped];  // of two outputs each: factor, addend, factor, addend
  int count, tiles, outputs;
  int chunks;      // of kRow channels
  int warpgroups;  // each has a stage of its own
  int stage_bytes, weight_bytes;
};

struct Barriers {
  std::uint64_t full[kMostWarpgroups], done[kMostWarpgroups], empty[kMostWarpgroups], weight;
};

struct Memory {
  Barriers* barriers;
  std::byte* weight;
  float4* terms;
  std::byte* stages;
};

// Where a tile lies.
struct Place {
  int level, x, y, n;

  __device__ Place(const Predictors& r, int tile) : level(0) {
    while (level + 1 < r.count && r.levels[level + 1].first_tile <= tile) ++level;
    const Level& l = r.levels[level];
    const int at = tile - l.first_tile;
    n = at / l.image_tiles;
    const int in_image = at - n * l.image_tiles, row = in_image / l.across;
    x = (in_image - row * l.across) * kSide, y = row * kSide;
  }
};

// f(i, tile) for each of the block's tiles.
template <class F>
__device__ void for_each_tile(const Predictors& r, int first, int step, F&& f) {
  const int blocks = static_cast<int>(gridDim.x), block = static_cast<int>(blockIdx.x);
  for (int i = first; block + i * blocks < r.tiles; i += step) f(i, block + i * blocks);
}

__device__ inline unsigned parity_of(const Predictors& r, int i) {
  return static_cast<unsigned>(i / r.warpgroups) & 1;
}

template <int kOutputs>
__device__ void copy_tiles(const Predictors& r, const Memory& memory) {
  Barriers& b = *memory.barriers;
  expect_bytes(&b.weight, static_cast<unsigned>(r.weight_bytes));
  std::byte* to = memory.weight;
  for (int tap = 0; tap < kTaps; ++tap)
    for (int c = 0; c < r.chunks; ++c, to += kOutputs * kRow)
      copy_block(to, &r.weight, &b.weight, c * kRow, tap, 0);
  for_each_tile(r, 0, 1, [&](int i, int tile) {
    const int stage = i % r.warpgroups;
    const Place place(r, tile);
    const Level& level = r.levels[place.level];
    std::byte* const at = memory.stages + stage * r.stage_bytes;
    await(&b.empty[stage], parity_of(r, i) ^ 1);
    expect_bytes(&b.full[stage], static_cast<unsigned>(kWindow * kWindowRow * r.chunks));
    for (int c = 0; c < r.chunks; ++c)
      copy_block(at + c * kChunkBytes, &level.x, &b.full[stage], c * kRow, place.x - level.left,
                 place.y - level.top, place.n);
  });
}

__device__ inline void store_tiles(const Predictors& r, const Memory& memory) {
  Barriers& b = *memory.barriers;
  for_each_tile(r, 0, 1, [&](int i, int tile) {
    const int stage = i % r.warpgroups;
    const Place place(r, tile);
    await(&b.done[stage], parity_of(r, i));
    store_block(&r.levels[place.level].y, memory.stages + stage * r.stage_bytes, 0, place.x, place.y,
                place.n);
    commit_stores();
    await_stores<0>();
    arrive(&b.empty[stage]);
  });
}

template <class T, int kOutputs>
__device__ void multiply_tile(const Predictors& r, const Memory& memory, const std::byte* pixels,
                              int (&sums)[kOutputs / 2]) {
  const std::uint64_t first = matrix_descriptor(pixels, kWindowRow);
  std::uint64_t weight = matrix_descriptor(memory.weight);
#pragma unroll 1
  for (int tap = 0; tap < kTaps; ++tap) {
    const int row = tap / 3, column = tap - row * 3;
    std::uint64_t of_tap = first + (static_cast<unsigned>(row * kWindowRow + column * kRow) >> 4);
#pragma unroll 1
    for (int c = 0; c < r.chunks; ++c) {
      std::uint64_t a = of_tap, b = weight;
      pin(sums);
      begin_products();
#pragma unroll
      for (int k = 0; k < kRow / kProductBytes; ++k, a += kDescriptorStep, b += kDescriptorStep)
        WarpgroupProduct<T, kOutputs>::add(sums, a, b, false);
      commit_products();
      pin(sums);
      of_tap += static_cast<unsigned>(kChunkBytes) >> 4;
      weight += static_cast<unsigned>(kOutputs * kRow) >> 4;
    }
  }
  await_products<0>();
  pin(sums);
}

// Of a lane: pairs of outputs of two pixels, 8 apart.
template <int kOutputs>
__device__ void finish_tile(const Predictors& r, const int (&sums)[kOutputs / 2], const float4* terms,
                            float* results, int column) {
#pragma unroll
  for (int j = 0; j < kOutputs / 8; ++j) {
    if (8 * j + column >= r.outputs) continue;
    const float4 of = terms[4 * j];
#pragma unroll
    for (int half = 0; half < 2; ++half)
      *reinterpret_cast<float2*>(results + half * 8 * r.outputs + 8 * j) = {
          __fmaf_rn(__int2float_rn(sums[4 * j + 2 * half]), of.x, of.y),
          __fmaf_rn(__int2float_rn(sums[4 * j + 2 * half + 1]), of.z, of.w)};
  }
}

// The calling warpgroup's threads, among themselves.
__device__ inline void sync_warpgroup(int warpgroup) {
  asm volatile("bar.sync %0, 128;" ::"r"(warpgroup + 1) : "memory");
}

template <class T, int kOutputs>
__device__ void make_tiles(const Predictors& r, const Memory& memory) {
  Barriers& b = *memory.barriers;
  const int warp = static_cast<int>(threadIdx.x) / 32 % 4, lane = static_cast<int>(threadIdx.x) % 32;
  const int warpgroup = static_cast<int>(threadIdx.x) / kWarpgroup, stage = warpgroup;
  const int row = warp * 16 + lane / 4, column = lane % 4 * 2;
  std::byte* const at = memory.stages + stage * r.stage_bytes;
  await(&b.weight, 0);
  for_each_tile(r, warpgroup, r.warpgroups, [&](int i, int tile) {
    const int level = Place(r, tile).level;
    await(&b.full[stage], parity_of(r, i));
    int sums[kOutputs / 2] = {};
    multiply_tile<T, kOutputs>(r, memory, at, sums);
    sync_warpgroup(warpgroup);  // all have read the pixels
    finish_tile<kOutputs>(r, sums, memory.terms + level * (kOutputs / 2) + lane % 4,
                          reinterpret_cast<float*>(at) + row * r.outputs + column, column);
    publish_stores();
    __syncwarp();
    if (lane == 0) arrive(&b.done[stage]);
  });
}

template <class T, int kOutputs>
__global__ void __launch_bounds__(threads_of(kMostWarpgroups), 1)
    predict(const __grid_constant__ Predictors r) {
  __shared__ Barriers barriers;
  extern __shared__ std::byte dynamic[];
  const int thread = static_cast<int>(threadIdx.x), multipliers = r.warpgroups * kWarpgroup;
  Memory memory{.barriers = &barriers, .weight = dynamic, .terms = nullptr, .stages = nullptr};
  memory.weight += (kAlignment - shared_address(dynamic) % kAlignment) % kAlignment;
  memory.stages = memory.weight + r.weight_bytes;
  memory.terms = reinterpret_cast<float4*>(memory.stages + r.warpgroups * r.stage_bytes);
  if (thread == 0) {
    for (int s = 0; s < r.warpgroups; ++s) {
      init_barrier(&barriers.full[s], 1);
      init_barrier(&barriers.done[s], 4);
      init_barrier(&barriers.empty[s], 1);
    }
    init_barrier(&barriers.weight, 1);
    publish_barriers();
  }
  for (int level = 0; level < r.count; ++level)
    for (int i = thread; i < kOutputs / 2; i += static_cast<int>(blockDim.x))
      memory.terms[level * (kOutputs / 2) + i] = __ldg(r.terms[level] + i);
  __syncthreads();
  if (thread < multipliers)
    make_tiles<T, kOutputs>(r, memory);
  else if (thread == multipliers)
    copy_tiles<kOutputs>(r, memory);
  else if (thread == multipliers + 32)
    store_tiles(r, memory);
}

// --- Host
// -----------------------------------------------------------------------------------------------------

int width_of(const ConvShape& c) {
  const auto* it = std::ranges::find_if(kWidths, [&](int width) { return c.outputs <= width; });
  return it == kWidths.end() ? 0 : *it;
}

int chunks_of(const ConvShape& c) { return static_cast<int>((c.channels + kRow - 1) / kRow); }
int weight_bytes_of(const ConvShape& c) { return kTaps * chunks_of(c) * width_of(c) * kRow; }
// Of a tile's pixels, or of its results.
int stage_bytes_of(const ConvShape& c) {
  constexpr int kFloat = 4;
  const int results = kPixels * width_of(c) * kFloat;
  return std::max(chunks_of(c) * kChunkBytes, (results + kAlignment - 1) / kAlignment * kAlignment);
}
int terms_bytes_of(const ConvShape& c, std::size_t levels) {
  return width_of(c) * 8 * static_cast<int>(levels);
}
int warpgroups_of(const ConvShape& c, std::size_t levels) {
  const int left = kSharedBytes - static_cast<int>(sizeof(Barriers)) - kAlignment - weight_bytes_of(c) -
                   terms_bytes_of(c, levels);
  return std::clamp(left / stage_bytes_of(c), 0, kMostWarpgroups);
}

// Of `dims`, the fastest first, without gaps; copied in boxes.
template <std::size_t kDims>
CUtensorMap map_of(const void* data, CUtensorMapDataType type, int element,
                   const std::array<std::int64_t, kDims>& dims, const std::array<int, kDims>& box,
                   CUtensorMapSwizzle swizzle, const char* what) {
  static const auto encode = driver_function<decltype(&cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled");
  std::array<cuuint64_t, kDims> sizes{};
  std::array<cuuint64_t, kDims - 1> bytes{};
  std::array<cuuint32_t, kDims> boxes{}, steps{};
  std::copy(dims.begin(), dims.end(), sizes.begin());
  std::copy(box.begin(), box.end(), boxes.begin());
  for (std::size_t i = 0; i + 1 < kDims; ++i)
    bytes[i] = sizes[i] * (i == 0 ? static_cast<cuuint64_t>(element) : bytes[i - 1]);
  steps.fill(1);
  CUtensorMap out{};
  encoded(encode(&out, type, kDims, const_cast<void*>(data), sizes.data(), bytes.data(), boxes.data(),
                 steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                 CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
          what);
  return out;
}

Level level_of(const QuantizedGroupedConv& conv, int first_tile) {
  const ConvShape& c = conv.shape;
  const int across = static_cast<int>((c.width + kSide - 1) / kSide),
            down = static_cast<int>((c.height + kSide - 1) / kSide);
  return {
      .x = map_of<4>(conv.x, CU_TENSOR_MAP_DATA_TYPE_UINT8, 1, {c.channels, c.width, c.height, c.images},
                     {kRow, kWindow, kWindow, 1}, CU_TENSOR_MAP_SWIZZLE_128B, "pixels"),
      .y = map_of<4>(conv.y, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4, {c.outputs, c.width, c.height, c.images},
                     {static_cast<int>(c.outputs), kSide, kSide, 1}, CU_TENSOR_MAP_SWIZZLE_NONE, "results"),
      .left = c.left_border(),
      .top = c.top_border(),
      .across = across,
      .image_tiles = across * down,
      .first_tile = first_tile};
}

Predictors predictors_of(std::span<const QuantizedGroupedConv> convs) {
  const ConvShape& c = convs.front().shape;
  const int width = width_of(c);
  Predictors out{.count = static_cast<int>(convs.size()),
                 .tiles = 0,
                 .outputs = static_cast<int>(c.outputs),
                 .chunks = chunks_of(c),
                 .warpgroups = warpgroups_of(c, convs.size()),
                 .stage_bytes = stage_bytes_of(c),
                 .weight_bytes = weight_bytes_of(c)};
  out.weight = map_of<3>(convs.front().weight, CU_TENSOR_MAP_DATA_TYPE_UINT8, 1,
                         {c.channels, kTaps, packed_outputs(c.outputs, kOutputGroup)}, {kRow, 1, width},
                         CU_TENSOR_MAP_SWIZZLE_128B, "weights");
  for (std::size_t l = 0; l < convs.size(); ++l) {
    out.levels[l] = level_of(convs[l], out.tiles);
    out.terms[l] = static_cast<const float4*>(convs[l].terms);
    out.tiles += out.levels[l].image_tiles * static_cast<int>(convs[l].shape.images);
  }
  return out;
}

template <class T, int kOutputs>
void launch_as(const Predictors& r, int multiprocessors, cudaStream_t stream) {
  const auto kernel = predict<T, kOutputs>;
  const int bytes = r.weight_bytes + r.warpgroups * r.stage_bytes + kOutputs * 8 * r.count + kAlignment;
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "predictors");
  kernel<<<static_cast<unsigned>(std::min(multiprocessors, r.tiles)), threads_of(r.warpgroups), bytes,
           stream>>>(r);
  cuda_check_launch("predictors");
}

}  // namespace

bool is_small_predictor(const QuantizedGroupedConv& conv) {
  const ConvShape& c = conv.shape;
  return can_group(conv) && conv.to == StoredType::kF32 && conv.activation == Activation::kNone &&
         !conv.residual_data && !conv.live && c.side == 3 && c.stride == 1 && c.taps_used() == kTaps &&
         c.first_tap == 0 && c.outputs % 4 == 0 && width_of(c) > 0 &&
         warpgroups_of(c, kMostQuantizedGrouped) >= kFewestWarpgroups;
}

Tensor quantized_predictor_weight(const Tensor& weight) {
  return packed_conv_weight<std::int8_t>(weight, DType::kI8, kOutputGroup);
}

Tensor quantized_predictor_terms(const QuantizedGroupedConv& c, const Tensor& scale, const Tensor& bias,
                                 float x_scale) {
  return packed_terms(c, scale, bias, x_scale, kOutputGroup);
}

void launch_quantized_predictors(std::span<const QuantizedGroupedConv> convs, DType type, int multiprocessors,
                                 cudaStream_t stream) {
  check(!convs.empty() && convs.size() <= kMostQuantizedGrouped, "a group of {} predictors", convs.size());
  const Predictors r = predictors_of(convs);
  const auto launch = [&]<class T>(T) {
    const int width = width_of(convs.front().shape);
    const auto as = width == 16 ? launch_as<T, 16> : width == 48 ? launch_as<T, 48> : launch_as<T, 64>;
    as(r, multiprocessors, stream);
  };
  type == DType::kU8 ? launch(std::uint8_t{}) : launch(std::int8_t{});
}

}  // namespace osprey
