// Pillow's bilinear filter (image/resize.h) in one kernel: a block makes a tile of the result. It takes the
// source rows under the tile in groups of 32, one row a lane, resizes them along the rows into shared memory,
// rounded to 8 bits, and then those along the columns.
//
// Photos of one class differ in size: target sizes, geometry and weights are computed here, in the same
// double arithmetic as on the CPU. Where a side keeps its size its weights are 1, so no pass is left out.
#include <cmath>

#include "backends/network_size.h"
#include "cuda/kernel.h"
#include "cuda/numbers.cuh"

namespace osprey {
namespace {

constexpr int kWeightBits = 22;
constexpr int kLanes = 32, kPitch = kLanes + 1;  // source rows side by side; odd: no bank conflicts
constexpr int kWarps = kBlock / 32;
constexpr int kGroup = 4;  // pixels that a thread unpacks

// What the class of shapes allows: `tile` x `tile` pixels of a result lie over at most `span` source pixels
// each way, and a pixel is made of at most `taps` of them.
struct Tiling {
  int tile, span, taps;

  constexpr int columns() const { return span + kGroup; }
  constexpr int rows() const { return (span + kLanes - 1) / kLanes * kLanes; }
  std::size_t shared_bytes() const {
    const int words = columns() * kPitch + rows() * (tile + 1) + 2 * tile * (taps + 2);
    return static_cast<std::size_t>(words) * sizeof(int);
  }
};

// The least factor by which a photo of the class is resized, before sizes are rounded.
double least_scale(const ResizeImage& op, int max_height, int max_width) {
  if (op.canvas_height > 0) return canvas_scale(max_width, max_height, op.canvas_width, op.canvas_height);
  return std::min(static_cast<double>(op.shortest) / std::min(max_height, max_width),
                  static_cast<double>(op.longest) / std::max(max_height, max_width));
}

// A side of `out` pixels has at most (out + 1/2) / scale source pixels: 1.5 / scale for each of them, and
// over a tile, with the reach of the filter on both sides, (tile + 2) of that, but for the rounding.
Tiling tiling_of(double scale, int tile) {
  const double most = 1 / scale;
  const double reach = std::max(1.5 * most, 1.0);
  const double span = (tile + 2) * (1 + 0.5 / tile) * std::max(most, 1.0) + 4;
  return {tile, static_cast<int>(std::ceil(span)), static_cast<int>(std::ceil(reach)) * 2 + 1};
}

// The weights of outputs [begin, begin + count) of one side, as PilResizer::Axis has them: output i is the
// sum of weights[i * taps + k] * input[first[i] + k] over k < taken[i], in units of 2^-22.
struct Axis {
  int *first, *taken, *weights;
  int taps;

  __device__ Axis(int* memory, int tile, int most_taps)
      : first(memory), taken(memory + tile), weights(memory + 2 * tile), taps(most_taps) {}

  __device__ void weigh(int i, int output, int in_size, int out_size) const {
    const double scale = static_cast<double>(in_size) / out_size;
    const double reach = scale < 1.0 ? 1.0 : scale, per_reach = 1.0 / reach;
    const double center = (static_cast<double>(output) + 0.5) * scale;
    const int begin = max(static_cast<int>(center - reach + 0.5), 0);
    const int end = min(min(static_cast<int>(center + reach + 0.5), in_size), begin + taps);
    const auto weight = [&](int k) {
      const double distance = fabs((k + begin - center + 0.5) * per_reach);
      return distance < 1.0 ? 1.0 - distance : 0.0;
    };
    double sum = 0;
    for (int k = 0; k < end - begin; ++k) sum += weight(k);
    for (int k = 0; k < end - begin; ++k) {
      const double share = sum != 0 ? weight(k) / sum : 0.0;
      weights[i * taps + k] = static_cast<int>(0.5 + share * (1 << kWeightBits));
    }
    first[i] = begin;
    taken[i] = end - begin;
  }
};

// Sums of three channels, packed in a word: one is unpacked for each product.
struct Sums {
  unsigned red = 1u << (kWeightBits - 1), green = red, blue = red;

  __device__ void add(unsigned pixel, int weight) {
    const auto w = static_cast<unsigned>(weight);
    red += __byte_perm(pixel, 0, 0x4440) * w;
    green += __byte_perm(pixel, 0, 0x4441) * w;
    blue += __byte_perm(pixel, 0, 0x4442) * w;
  }
  // Weights are never negative, so only the upper end needs clipping.
  __device__ unsigned packed() const {
    return min(red >> kWeightBits, 255u) | min(green >> kWeightBits, 255u) << 8 |
           min(blue >> kWeightBits, 255u) << 16;
  }
};

// kGroup pixels from 3-byte to 4-byte form. Aligned words are read, all of them within [.., end); pixels past
// the end are skipped.
__device__ void unpack(const std::uint8_t* from, const std::uint8_t* end, unsigned* to, int pitch) {
  unsigned pixel[kGroup];
  const unsigned shift = 8 * (reinterpret_cast<std::uintptr_t>(from) % 4);
  if (from + 16 <= end) {
    const auto* words = reinterpret_cast<const unsigned*>(from - shift / 8);
    const unsigned a = words[0], b = words[1], c = words[2], d = words[3];
    const unsigned x = __funnelshift_r(a, b, shift), y = __funnelshift_r(b, c, shift),
                   z = __funnelshift_r(c, d, shift);
    pixel[0] = x;
    pixel[1] = __funnelshift_r(x, y, 24);
    pixel[2] = __funnelshift_r(y, z, 16);
    pixel[3] = z >> 8;
  } else {
    for (int i = 0; i < kGroup; ++i) {
      const std::uint8_t* const p = from + 3 * i;
      pixel[i] = p + 3 <= end ? p[0] | p[1] << 8 | p[2] << 16 : 0;
    }
  }
#pragma unroll
  for (int i = 0; i < kGroup; ++i) to[i * pitch] = pixel[i];
}

// Up to kLanes source rows [top, bottom), pixels [left, left + width), to stage[x * kPitch + row]. A warp
// takes four rows of eight groups, so that it reads whole sectors and writes to 32 banks.
__device__ void stage_rows(const std::uint8_t* photo, ImageSize size, int top, int bottom, int left,
                           int width, unsigned* stage) {
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int row = warp * 4 + lane % 4, y = top + row;
  if (y >= bottom) return;
  const std::uint8_t* const end = photo + std::int64_t{3} * size.width * size.height;
  const std::uint8_t* const line = photo + std::int64_t{3} * size.width * y;
  for (int x = lane / 4 * kGroup; x < width; x += 8 * kGroup)
    unpack(line + 3 * (left + x), end, stage + x * kPitch + row, kPitch);
}

__global__ void __launch_bounds__(kBlock)
    resize(ResizeImage op, Tiling tiling, CudaPhotos photos, const int* sizes, std::uint8_t* out,
           int out_height, int out_width, float* geometry) {
  extern __shared__ unsigned memory[];
  unsigned* const stage = memory;
  unsigned* const wide = stage + tiling.columns() * kPitch;  // [source row][column of the tile]
  int* const axes = reinterpret_cast<int*>(wide + tiling.rows() * (tiling.tile + 1));
  const Axis x_axis(axes, tiling.tile, tiling.taps);
  const Axis y_axis(axes + tiling.tile * (tiling.taps + 2), tiling.tile, tiling.taps);

  const int n = static_cast<int>(blockIdx.z), tile = tiling.tile, wide_pitch = tile + 1;
  const ImageSize from{sizes[2 * n + 1], sizes[2 * n]};
  const NetworkSize network = network_size(op, from.width, from.height);
  const ImageSize to = network.size;
  if (blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0)
#pragma unroll
    for (std::size_t i = 0; i < 6; ++i) geometry[6 * n + i] = network.geometry[i];
  const int left = static_cast<int>(blockIdx.x) * tile, top = static_cast<int>(blockIdx.y) * tile;
  const int columns = min(tile, min(to.width, out_width) - left);
  const int rows = min(tile, min(to.height, out_height) - top);
  if (columns <= 0 || rows <= 0) return;

  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  if (thread < columns) x_axis.weigh(thread, left + thread, from.width, to.width);
  if (const int i = thread - kBlock / 2; i >= 0 && i < rows) y_axis.weigh(i, top + i, from.height, to.height);
  __syncthreads();

  const std::uint8_t* const photo = photos.data + n * photos.slot_bytes;
  const int first_x = x_axis.first[0], first_y = y_axis.first[0];
  const int under_x = x_axis.first[columns - 1] + x_axis.taken[columns - 1] - first_x;
  const int under_y = y_axis.first[rows - 1] + y_axis.taken[rows - 1] - first_y;
  for (int group = 0; group < under_y; group += kLanes) {
    stage_rows(photo, from, first_y + group, first_y + under_y, first_x, under_x, stage);
    __syncthreads();
    for (int x = warp; x < columns; x += kWarps) {
      const unsigned* source = stage + (x_axis.first[x] - first_x) * kPitch + lane;
      const int* const weights = x_axis.weights + x * tiling.taps;
      Sums sums;
      for (int k = 0; k < x_axis.taken[x]; ++k) sums.add(source[k * kPitch], weights[k]);
      wide[(group + lane) * wide_pitch + x] = sums.packed();
    }
    __syncthreads();
  }

  const int red = op.bgr ? 2 : 0;
  for (int i = thread; i < rows * tile; i += kBlock) {
    const int x = i % tile, y = i / tile;
    if (x >= columns) continue;
    const unsigned* source = wide + (y_axis.first[y] - first_y) * wide_pitch + x;
    const int* const weights = y_axis.weights + y * tiling.taps;
    Sums sums;
    for (int k = 0; k < y_axis.taken[y]; ++k) sums.add(source[k * wide_pitch], weights[k]);
    const unsigned pixel = sums.packed();
    std::uint8_t* const p = out + ((std::int64_t{n} * out_height + top + y) * out_width + left + x) * 3;
    p[red] = static_cast<std::uint8_t>(pixel);
    p[1] = static_cast<std::uint8_t>(pixel >> 8);
    p[2 - red] = static_cast<std::uint8_t>(pixel >> 16);
  }
}

// The largest tile with which two blocks fit into shared memory; the smallest may have it for itself.
Tiling choose_tiling(const CudaPrepare& p) {
  const CudaPhotos& photos = p.photos();
  const double scale = least_scale(p.op<ResizeImage>(), photos.max_height, photos.max_width);
  for (int tile = 32; tile > 0; tile /= 2) {
    const Tiling out = tiling_of(scale, tile);
    const std::size_t room = p.device().shared_bytes_optin / (tile > 1 ? 2 : 1);
    if (out.span < (1 << 16) && out.shared_bytes() <= room) return out;
  }
  fail(ErrorCode::kBadInput, "{}: photos of up to {}x{} pixels shrink too much for the GPU", p.node().name,
       photos.max_width, photos.max_height);
}

}  // namespace

CudaKernel resize_image_cuda() {
  return {.op = &kOpInfo<ResizeImage>, .dtypes = {DType::kU8}, .prepare = [](CudaPrepare& p) {
            const auto& op = p.op<ResizeImage>();
            const Tiling tiling = choose_tiling(p);
            const std::size_t shared = tiling.shared_bytes();
            cuda_check(cudaFuncSetAttribute(resize, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                            static_cast<int>(shared)),
                       "resize_image");
            return cuda_step([op, tiling, shared](CudaRun& run) {
              const CudaValue& out = run.out(0);
              const auto n = static_cast<unsigned>(out.dims[0]), height = static_cast<unsigned>(out.dims[1]),
                         width = static_cast<unsigned>(out.dims[2]),
                         tile = static_cast<unsigned>(tiling.tile);
              const dim3 grid((width + tile - 1) / tile, (height + tile - 1) / tile, n);
              resize<<<grid, kBlock, shared, run.stream()>>>(op, tiling, run.photos(), run.in(1).as<int>(),
                                                             out.as<std::uint8_t>(), static_cast<int>(height),
                                                             static_cast<int>(width), run.out(1).as<float>());
              cuda_check_launch("resize_image");
            });
          }};
}

}  // namespace osprey
