// Where sums are short, what takes time is not the products but what goes in and out: pixels, residuals and
// results. So a block keeps the weight of its outputs in shared memory, and everything else streams through
// it, in tiles of 64 pixels by the outputs of the block. One thread has the tensor memory engine copy the
// pixels of a tile and its residual, as stages become free; each warpgroup makes every n-th tile, from the
// products to integers that take the residual's place; another thread has the engine store those. So copies,
// products, results and stores of different tiles go on side by side.
//
// A window of 3x3 is read from pixels with a border of one, copied once: the rows that a tap multiplies are
// those pixels, so many rows further on. The engine's swizzle goes by addresses, as does the tensor cores',
// so that rows may begin anywhere.
#include <algorithm>
#include <array>

#include "cuda/hopper/conv_tiles.cuh"
#include "cuda/hopper/quantized_resident.h"
#include "cuda/hopper/quantized_results.cuh"

namespace osprey {
namespace {

using namespace hopper;

constexpr int kPixels = 64;                // of a tile: the rows of a product
constexpr int kBox = 64;                   // outputs that lie side by side in a stage
constexpr int kBoxBytes = kPixels * kBox;  // of them
constexpr int kRow = 128;                  // channels that lie side by side
constexpr int kTermBytes = 8;              // of an output: factor and addend
constexpr int kMostStages = 12;
constexpr int kSharedBytes = 226 << 10;  // of a block, the most
constexpr int kAlignment = 1024;         // of what is swizzled
constexpr std::array kResidentWidths{256, 128, 64};

// As many as registers allow; a warp copies, another stores.
constexpr int most_warpgroups(int width) { return width == 256 ? 2 : width == 128 ? 3 : 4; }
constexpr int threads_of(int warpgroups) { return warpgroups * kWarpgroup + 64; }

struct Resident {
  CUtensorMap x, weight, residual, y;
  QuantizedResult result;
  const int* live;                            // images; null: all
  int images, image_pixels;                   // of the result
  int tile_width, tile_height, across, down;  // across, down: tiles of an image; 0: all pixels in one row
  int side, left, top, chunks, steps;         // chunks: of kRow channels; steps: of those and taps
  int row_bytes, chunk_bytes;                 // of the pixels of a stage: a row of them, a chunk
  // A multiple of the warpgroups, so that a stage is always one warpgroup's: it has seen each phase of the
  // stage's barrier before it waits for the next, and takes none for the one after it.
  int warpgroups, stages;
  int output_tiles, stage_bytes, weight_bytes;  // weight_bytes: of a block
  int upsampling;                               // of the residual, 1 or 2; 0: there is none
  int residual_pixels, pixels_at;  // residual_pixels: of a tile; pixels_at: where those of x begin in a stage
};

struct Barriers {
  std::uint64_t full[kMostStages], done[kMostStages], empty[kMostStages], weight;
};

// Of the tiles of a block: where one lies in the result.
struct Place {
  int x, y, n;

  __device__ Place(const Resident& r, int tile) {
    if (r.across == 0) {
      x = tile * kPixels, y = 0, n = 0;
      return;
    }
    const int area = r.across * r.down;
    n = tile / area;
    const int in_image = tile - n * area, row = in_image / r.across;
    x = (in_image - row * r.across) * r.tile_width, y = row * r.tile_height;
  }
};

// f(i, tile) for each of the block's tiles.
template <class F>
__device__ void for_each_tile(const Resident& r, int first, int step, F&& f) {
  const int images = r.live ? min(__ldg(r.live), r.images) : r.images;
  const int tiles =
      r.across == 0 ? (images * r.image_pixels + kPixels - 1) / kPixels : images * r.across * r.down;
  const int blocks = static_cast<int>(gridDim.x) / r.output_tiles,
            block = static_cast<int>(blockIdx.x) / r.output_tiles;
  for (int i = first; block + i * blocks < tiles; i += step) f(i, block + i * blocks);
}

__device__ inline int stage_of(const Resident& r, int i) { return i % r.stages; }
__device__ inline unsigned parity_of(const Resident& r, int i) {
  return static_cast<unsigned>(i / r.stages) & 1;
}

struct Memory {
  Barriers* barriers;
  std::byte* weight;
  float4* terms;
  std::byte* stages;

  __device__ std::byte* stage(const Resident& r, int i) const {
    return stages + stage_of(r, i) * r.stage_bytes;
  }
};

// In a stage that begins at `at`: where the results will be, or behind them where it is smaller.
__device__ inline std::byte* residual_in(const Resident& r, std::byte* at, int outputs) {
  return r.upsampling == 1 ? at : at + kPixels * outputs;
}

template <int kOutputs>
__device__ void copy_weight(const Resident& r, const Memory& memory, int output) {
  expect_bytes(&memory.barriers->weight, static_cast<unsigned>(r.weight_bytes));
  std::byte* to = memory.weight;
  for (int tap = 0; tap < r.side * r.side; ++tap)
    for (int c = 0; c < r.chunks; ++c, to += kOutputs * kRow)
      copy_block(to, &r.weight, &memory.barriers->weight, c * kRow, tap, output);
}

template <int kOutputs>
__device__ void copy_tiles(const Resident& r, const Memory& memory, int output) {
  for_each_tile(r, 0, 1, [&](int i, int tile) {
    Barriers& b = *memory.barriers;
    const int stage = stage_of(r, i);
    const Place place(r, tile);
    std::byte* const at = memory.stage(r, i);
    await(&b.empty[stage], parity_of(r, i) ^ 1);
    const int pixels = r.side == 1 ? kPixels : (r.tile_width + 2) * (r.tile_height + 2);
    expect_bytes(&b.full[stage],
                 static_cast<unsigned>(pixels * kRow * r.chunks + r.residual_pixels * kOutputs));
    for (int c = 0; c < r.chunks; ++c)
      copy_block(at + r.pixels_at + c * r.chunk_bytes, &r.x, &b.full[stage], c * kRow, place.x - r.left,
                 place.y - r.top, place.n);
    if (r.upsampling > 0)
      for (int box = 0; box < kOutputs / kBox; ++box)
        copy_block(residual_in(r, at, kOutputs) + box * r.residual_pixels * kBox, &r.residual, &b.full[stage],
                   output + box * kBox, place.x / r.upsampling, place.y / r.upsampling, place.n);
  });
}

// A stage is free once its results have been read, which is waited for a tile later.
template <int kOutputs>
__device__ void store_tiles(const Resident& r, const Memory& memory, int output) {
  Barriers& b = *memory.barriers;
  int before = -1;
  for_each_tile(r, 0, 1, [&](int i, int tile) {
    const int stage = stage_of(r, i);
    const Place place(r, tile);
    await(&b.done[stage], parity_of(r, i));
    for (int box = 0; box < kOutputs / kBox; ++box)
      store_block(&r.y, memory.stage(r, i) + box * kBoxBytes, output + box * kBox, place.x, place.y, place.n);
    commit_stores();
    if (before >= 0) {
      await_stores<1>();
      arrive(&b.empty[before]);
    }
    before = stage;
  });
  await_stores<0>();
}

// kProducts of each step, a chunk of channels of a tap.
template <class T, int kOutputs, int kProducts>
__device__ void multiply_tile(const Resident& r, const Memory& memory, const std::byte* pixels,
                              int (&sums)[kOutputs / 2]) {
  const std::uint64_t first = matrix_descriptor(pixels, r.side == 1 ? 8 * kRow : r.row_bytes);
  std::uint64_t b_step = matrix_descriptor(memory.weight);
  int chunk = 0, column = 0, tap_row = 0, step_bytes = 0;
#pragma unroll 1
  for (int step = 0; step < r.steps; ++step) {
    std::uint64_t a = first + (static_cast<unsigned>(step_bytes) >> 4), b = b_step;
    pin(sums);
    begin_products();
#pragma unroll
    for (int k = 0; k < kProducts; ++k, a += kDescriptorStep, b += kDescriptorStep)
      WarpgroupProduct<T, kOutputs>::add(sums, a, b, false);
    commit_products();
    pin(sums);
    b_step += static_cast<unsigned>(kOutputs * kRow) >> 4;
    if (++chunk == r.chunks) {
      chunk = 0;
      if (++column == r.side) column = 0, tap_row += r.row_bytes;
    }
    step_bytes = tap_row + column * kRow + chunk * r.chunk_bytes;
  }
  await_products<0>();
  pin(sums);
}

// What a lane has of a tile.
struct Lane {
  std::byte* results;            // of two rows, 8 apart
  const std::byte* residual[2];  // of each
  const float4* terms;
};

template <bool kResidual, int kOutputs>
__device__ void finish_tile(const Resident& resident, const int (&sums)[kOutputs / 2], const Lane& lane) {
  const QuantizedResult& r = resident.result;
#pragma unroll
  for (int g = 0; g < kOutputs / kBox; ++g) {
    uint4 residual[2];
    if constexpr (kResidual)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        residual[half] =
            *reinterpret_cast<const uint4*>(lane.residual[half] + g * resident.residual_pixels * kBox);
    std::uint32_t words[2][kQuad];
#pragma unroll
    for (int q = 0; q < kQuad; ++q) {
      float v[2][kQuad];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int j = g * (kBox / 8) + 2 * q + i;  // of the tile's columns by 8
        const float4 of = lane.terms[4 * j];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          v[half][2 * i] = __fmaf_rn(__int2float_rn(sums[4 * j + 2 * half]), of.x, of.y);
          v[half][2 * i + 1] = __fmaf_rn(__int2float_rn(sums[4 * j + 2 * half + 1]), of.z, of.w);
        }
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if constexpr (kResidual) add_residual(r, word_of(residual[half], q), v[half]);
        words[half][q] = integers_of(r, v[half]);
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half)
      *reinterpret_cast<uint4*>(lane.results + g * kBoxBytes + half * 8 * kBox) = {
          words[half][0], words[half][1], words[half][2], words[half][3]};
  }
}

// Of a tile's pixel: which pixel of the tile's residual is added to it.
__device__ inline int residual_row(const Resident& r, int row) {
  if (r.upsampling != 2) return row;
  const int y = row / r.tile_width, x = row - y * r.tile_width;
  return y / 2 * (r.tile_width / 2) + x / 2;
}

template <class T, int kOutputs, int kProducts>
__device__ void make_tiles(const Resident& r, const Memory& memory) {
  Barriers& b = *memory.barriers;
  const int warp = static_cast<int>(threadIdx.x) / 32 % 4, lane = static_cast<int>(threadIdx.x) % 32;
  const int row = warp * 16 + lane / 4, column = lane % 4 * 16;
  const int residual_rows[]{residual_row(r, row), residual_row(r, row + 8)};
  await(&b.weight, 0);
  for_each_tile(r, static_cast<int>(threadIdx.x) / kWarpgroup, r.warpgroups, [&](int i, int) {
    const int stage = stage_of(r, i);
    std::byte* const at = memory.stage(r, i);
    const std::byte* const residual = residual_in(r, at, kOutputs) + column;
    await(&b.full[stage], parity_of(r, i));
    int sums[kOutputs / 2] = {};
    multiply_tile<T, kOutputs, kProducts>(r, memory, at + r.pixels_at, sums);
    const Lane own{.results = at + row * kBox + column,
                   .residual = {residual + residual_rows[0] * kBox, residual + residual_rows[1] * kBox},
                   .terms = memory.terms + lane % 4};
    r.upsampling > 0 ? finish_tile<true, kOutputs>(r, sums, own) : finish_tile<false, kOutputs>(r, sums, own);
    publish_stores();
    __syncwarp();
    if (lane == 0) arrive(&b.done[stage]);
  });
}

template <class T, int kOutputs, int kProducts>
__global__ void __launch_bounds__(threads_of(most_warpgroups(kOutputs)), 1)
    convolve_resident(const __grid_constant__ Resident r) {
  __shared__ Barriers barriers;
  extern __shared__ std::byte dynamic[];
  const int thread = static_cast<int>(threadIdx.x), multipliers = r.warpgroups * kWarpgroup;
  const int output = static_cast<int>(blockIdx.x) % r.output_tiles * kOutputs;
  Memory memory{.barriers = &barriers, .weight = dynamic, .terms = nullptr, .stages = nullptr};
  memory.weight += (kAlignment - shared_address(dynamic) % kAlignment) % kAlignment;
  memory.stages = memory.weight + r.weight_bytes;
  memory.terms = reinterpret_cast<float4*>(memory.stages + r.stages * r.stage_bytes);
  if (thread == 0) {
    for (int s = 0; s < r.stages; ++s) {
      init_barrier(&barriers.full[s], 1);
      init_barrier(&barriers.done[s], 4);
      init_barrier(&barriers.empty[s], 1);
    }
    init_barrier(&barriers.weight, 1);
    publish_barriers();
  }
  for (int i = thread; i < kOutputs / 2; i += static_cast<int>(blockDim.x))
    memory.terms[i] = __ldg(r.result.terms + output / 2 + i);
  __syncthreads();
  begin_next_launch();
  if (thread == multipliers) copy_weight<kOutputs>(r, memory, output);
  await_launch_before();
  if (thread < multipliers)
    make_tiles<T, kOutputs, kProducts>(r, memory);
  else if (thread == multipliers)
    copy_tiles<kOutputs>(r, memory, output);
  else if (thread == multipliers + 32)
    store_tiles<kOutputs>(r, memory, output);
}

// --- Host
// -----------------------------------------------------------------------------------------------------

int rounded(int bytes, int to) { return (bytes + to - 1) / to * to; }

// Of `dims`, the fastest first, `strides` those of all but the first; copied in boxes.
template <std::size_t kDims>
CUtensorMap map_of(const void* data, const std::array<std::int64_t, kDims>& dims,
                   const std::array<std::int64_t, kDims - 1>& strides, const std::array<int, kDims>& box,
                   CUtensorMapSwizzle swizzle, const char* what) {
  static const auto encode = driver_function<decltype(&cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled");
  std::array<cuuint64_t, kDims> sizes{};
  std::array<cuuint64_t, kDims - 1> bytes{};
  std::array<cuuint32_t, kDims> boxes{}, steps{};
  std::copy(dims.begin(), dims.end(), sizes.begin());
  std::copy(strides.begin(), strides.end(), bytes.begin());
  std::copy(box.begin(), box.end(), boxes.begin());
  steps.fill(1);
  CUtensorMap out{};
  encoded(encode(&out, CU_TENSOR_MAP_DATA_TYPE_UINT8, kDims, const_cast<void*>(data), sizes.data(),
                 bytes.data(), boxes.data(), steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
          what);
  return out;
}

struct Sizes {
  int chunks, row_bytes, chunk_bytes, pixels_at, weight_bytes, stage_bytes, warpgroups, stages;
};

// upsampling: as of Resident.
Sizes sizes_of(const ConvShape& c, int width, int upsampling) {
  Sizes out{};
  out.chunks = static_cast<int>((c.channels + kRow - 1) / kRow);
  out.row_bytes = (c.side == 1 ? 8 : 10) * kRow;
  out.chunk_bytes = rounded(c.side == 1 ? kPixels * kRow : 10 * out.row_bytes, kAlignment);
  out.weight_bytes = c.side * c.side * out.chunks * width * kRow;
  out.pixels_at = (kPixels + (upsampling == 2 ? kPixels / 4 : 0)) * width;
  out.stage_bytes = out.pixels_at + out.chunks * out.chunk_bytes;
  const int left =
      kSharedBytes - static_cast<int>(sizeof(Barriers)) - kAlignment - out.weight_bytes - width * kTermBytes;
  const int stages = std::clamp(left / out.stage_bytes, 0, kMostStages);
  out.warpgroups = std::clamp(stages, 1, most_warpgroups(width));
  out.stages = stages / out.warpgroups * out.warpgroups;
  return out;
}

int upsampling_of(const QuantizedGroupedConv& conv) {
  return conv.residual_data ? conv.residual.upsampling : 0;
}

// The fewest tiles of 64 pixels, wide ones first; of 3x3 a product's groups of 8 rows are a row of a tile.
// A residual that is upsampled wants both sides even.
void cut(Resident& r, const ConvShape& c) {
  const int width = static_cast<int>(c.out_width()), height = static_cast<int>(c.out_height());
  std::int64_t least = 0;
  for (int tile = c.side == 1 ? kPixels / 2 : 8; tile >= 8; tile /= 2) {
    const int across = (width + tile - 1) / tile, down = (height + kPixels / tile - 1) / (kPixels / tile);
    if (const std::int64_t all = std::int64_t{across} * down; least == 0 || all < least)
      least = all, r.tile_width = tile, r.tile_height = kPixels / tile, r.across = across, r.down = down;
  }
}

Resident resident_of(const QuantizedGroupedConv& conv, int width) {
  const ConvShape& c = conv.shape;
  const int upsampling = upsampling_of(conv);
  const Sizes sizes = sizes_of(c, width, upsampling);
  Resident r{.result = result_of(conv),
             .live = conv.live,
             .images = static_cast<int>(c.images),
             .image_pixels = static_cast<int>(c.out_height() * c.out_width()),
             .side = c.side,
             .left = c.left_border(),
             .top = c.top_border(),
             .chunks = sizes.chunks,
             .steps = c.side * c.side * sizes.chunks,
             .row_bytes = sizes.row_bytes,
             .chunk_bytes = sizes.chunk_bytes,
             .warpgroups = sizes.warpgroups,
             .stages = sizes.stages,
             .output_tiles = static_cast<int>((c.outputs + width - 1) / width),
             .stage_bytes = sizes.stage_bytes,
             .weight_bytes = sizes.weight_bytes,
             .upsampling = upsampling,
             .residual_pixels = upsampling == 0 ? 0 : kPixels / (upsampling * upsampling),
             .pixels_at = sizes.pixels_at};
  const bool flat = c.side == 1 && c.stride == 1 && upsampling < 2;
  if (flat)
    r.tile_width = kPixels, r.tile_height = 1;
  else
    cut(r, c);
  // All pixels of a map that is flat are one row.
  const std::int64_t pixels = c.images * r.image_pixels;
  const std::array<std::int64_t, 3> out_map =
      flat ? std::array<std::int64_t, 3>{pixels, 1, 1}
           : std::array<std::int64_t, 3>{c.out_width(), c.out_height(), c.images};
  const auto results = [&](const void* data, int shrunk, const char* what) {
    const std::int64_t wide = out_map[0] / shrunk, high = out_map[1] / shrunk;
    return map_of<4>(
        data, {c.outputs, wide, high, out_map[2]}, {c.outputs, c.outputs * wide, c.outputs * wide * high},
        {kBox, r.tile_width / shrunk, r.tile_height / shrunk, 1}, CU_TENSOR_MAP_SWIZZLE_NONE, what);
  };
  r.y = results(conv.y, 1, "results");
  if (upsampling > 0) r.residual = results(conv.residual_data, upsampling, "residuals");
  const std::int64_t row = flat ? c.channels * pixels : c.channels * c.width;
  const std::int64_t image = flat ? row : row * c.height;
  const int border = c.side - 1;
  r.x = map_of<4>(
      conv.x,
      {c.channels, c.side == 1 ? out_map[0] : c.width, c.side == 1 ? out_map[1] : c.height, out_map[2]},
      {c.channels * c.stride, row * c.stride, image},
      {kRow, r.tile_width + border, r.tile_height + border, 1}, CU_TENSOR_MAP_SWIZZLE_128B, "pixels");
  const std::int64_t taps = c.side * c.side;
  r.weight =
      map_of<3>(conv.weight, {c.channels, taps, packed_outputs(c.outputs, packed_group(conv.to))},
                {c.channels, c.channels * taps}, {kRow, 1, width}, CU_TENSOR_MAP_SWIZZLE_128B, "weights");
  return r;
}

template <class T, int kOutputs>
void launch_as(const Resident& r, std::int64_t channels, std::int64_t tiles, int multiprocessors,
               cudaStream_t stream) {
  constexpr int kAll = kRow / kProductBytes;
  const auto kernel =
      channels <= kRow / 2 ? convolve_resident<T, kOutputs, kAll / 2> : convolve_resident<T, kOutputs, kAll>;
  const int bytes = r.weight_bytes + r.stages * r.stage_bytes + kOutputs * kTermBytes + kAlignment;
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
             "a convolution of integers");
  const auto each = std::min<std::int64_t>(std::max(multiprocessors / r.output_tiles, 1), tiles);
  constexpr double kTileClocks = 1500;  // as measured roughly
  const double clocks = static_cast<double>((tiles + each - 1) / each) * kTileClocks;
  launch_early(kernel,
               {.blocks = static_cast<unsigned>(each * r.output_tiles),
                .threads = threads_of(r.warpgroups),
                .shared_bytes = bytes,
                .early = clocks < kShortLaunch,
                .stream = stream},
               r);
  cuda_check_launch("a convolution of integers");
}

}  // namespace

std::vector<int> resident_widths(const QuantizedGroupedConv& conv) {
  const ConvShape& c = conv.shape;
  std::vector<int> out;
  if (!can_group(conv) || !is_integer(conv.to) || !is_bound(conv.activation) ||
      (conv.residual.upsampling == 2 && (c.out_width() % 2 != 0 || c.out_height() % 2 != 0)) ||
      (c.side == 3 && c.stride != 1) || c.taps_used() != c.side * c.side || c.first_tap != 0)
    return out;
  for (const int width : kResidentWidths) {
    const bool idle = width > 64 && c.outputs <= width / 2;  // half of it or more
    if (constexpr int kFewest = 2; !idle && sizes_of(c, width, conv.residual.upsampling).stages >= kFewest)
      out.push_back(width);
  }
  return out;
}

void launch_quantized_resident(const QuantizedGroupedConv& conv, DType type, int width, int multiprocessors,
                               cudaStream_t stream) {
  const Resident r = resident_of(conv, width);
  const std::int64_t tiles = r.across == 0 ? (conv.shape.out_pixels() + kPixels - 1) / kPixels
                                           : conv.shape.images * r.across * r.down;
  const auto launch = [&]<class T>(T) {
    const auto as = width == 256 ? launch_as<T, 256> : width == 128 ? launch_as<T, 128> : launch_as<T, 64>;
    as(r, conv.shape.channels, tiles, multiprocessors, stream);
  };
  type == DType::kU8 ? launch(std::uint8_t{}) : launch(std::int8_t{});
}

}  // namespace osprey
