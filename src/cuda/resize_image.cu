// Pillow's bilinear filter (image/resize.h) in two kernels. Photos of one class differ in size, so the first
// finds target sizes, geometry and weights, in the same double arithmetic as on the CPU. In the second a
// block makes a tile of the result: it takes the source rows under it in groups of 32, one row a lane,
// resizes them along the rows into shared memory, rounded to 8 bits, and then those along the columns. Where
// a side keeps its size its weights are 1, so no pass is left out.
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
  const double scale = std::min(static_cast<double>(op.shortest) / std::min(max_height, max_width),
                                static_cast<double>(op.longest) / std::max(max_height, max_width));
  // Where the longer side follows from the rounded shorter one, a strip may shrink by half as much again: 1.5
  // pixels become 1.
  return op.fit == Fit::kShortSide ? scale / 1.5 : scale;
}

// A side of `out` pixels has at most (out + 1/2) / scale source pixels: 1.5 / scale for each of them, and
// over a tile, with the reach of the filter on both sides, (tile + 2) of that, but for the rounding.
Tiling tiling_of(double scale, int tile) {
  const double most = 1 / scale;
  const double reach = std::max(1.5 * most, 1.0);
  const double span = (tile + 2) * (1 + 0.5 / tile) * std::max(most, 1.0) + 4;
  return {tile, static_cast<int>(std::ceil(span)), static_cast<int>(std::ceil(reach)) * 2 + 1};
}

// How each output of one side is made, `stride` numbers for each: the first source pixel, how many there are,
// and their weights in units of 2^-22 (PilResizer::Axis).
struct Axis {
  int* records;
  int stride;

  __device__ int first(int i) const { return records[i * stride]; }
  __device__ int taken(int i) const { return records[i * stride + 1]; }
  __device__ int* weights(int i) const { return records + i * stride + 2; }
};

// Of each photo: the target's height and width, and the axes for slots of these extents.
struct Recipes {
  int* memory;
  int height, width, taps;

  constexpr int stride() const { return taps + 2; }
  constexpr std::int64_t ints() const { return 2 + static_cast<std::int64_t>(height + width) * stride(); }
  __device__ int* target(int n) const { return memory + n * ints(); }
  __device__ Axis across(int n) const { return {target(n) + 2, stride()}; }
  __device__ Axis down(int n) const { return {target(n) + 2 + width * stride(), stride()}; }
};

// Weight k of an output; every thread adds up the sum of all of them for itself, in the CPU's order.
__device__ void weigh(const Axis& axis, int output, int k, int in_size, int out_size) {
  const int taps = axis.stride - 2;
  const double scale = static_cast<double>(in_size) / out_size;
  const double reach = scale < 1.0 ? 1.0 : scale, per_reach = 1.0 / reach;
  const double center = (static_cast<double>(output) + 0.5) * scale;
  const int begin = max(static_cast<int>(center - reach + 0.5), 0);
  int end = min(min(static_cast<int>(center + reach + 0.5), in_size), begin + taps);
  const auto weight = [&](int i) {
    const double distance = fabs((i + begin - center + 0.5) * per_reach);
    return distance < 1.0 ? 1.0 - distance : 0.0;
  };
  // The filter's very edge: a side that keeps its size is made of one pixel each, not of two.
  if (end - begin > 1 && weight(end - begin - 1) == 0) --end;
  double sum = 0;
  for (int i = 0; i < end - begin; ++i) sum += weight(i);
  const double share = sum != 0 ? weight(k) / sum : 0.0;
  axis.weights(output)[k] = static_cast<int>(0.5 + share * (1 << kWeightBits));
  if (k != 0) return;
  int* const record = axis.records + output * axis.stride;
  record[0] = begin;
  record[1] = end - begin;
}

// A thread a weight.
__global__ void make_recipes(FitRule op, const int* sizes, Recipes recipes, float* geometry) {
  const int n = static_cast<int>(blockIdx.y), height = sizes[2 * n], width = sizes[2 * n + 1];
  const int i = static_cast<int>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  const int output = i / recipes.taps, k = i % recipes.taps, row = output - recipes.width;
  const ImageSize to = network_size(op, width, height).size;
  if (row < 0 && output < to.width) weigh(recipes.across(n), output, k, width, to.width);
  if (row >= 0 && row < min(to.height, recipes.height)) weigh(recipes.down(n), row, k, height, to.height);
  if (i != 0) return;
  recipes.target(n)[0] = to.height;
  recipes.target(n)[1] = to.width;
  const NetworkSize network = network_size(op, width, height);
#pragma unroll
  for (std::size_t g = 0; g < 6; ++g) geometry[6 * n + g] = network.geometry[g];
}

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

// The records of `count` outputs into shared memory.
__device__ Axis copied(const Axis& from, int begin, int count, int* to) {
  const int* const source = from.records + begin * from.stride;
  for (int i = static_cast<int>(threadIdx.x); i < count * from.stride; i += kBlock) to[i] = source[i];
  return {to, from.stride};
}

__global__ void __launch_bounds__(kBlock)
    resize(bool bgr, Tiling tiling, CudaPhotos photos, const int* sizes, Recipes recipes, std::uint8_t* out) {
  extern __shared__ unsigned memory[];
  unsigned* const stage = memory;
  unsigned* const wide = stage + tiling.columns() * kPitch;  // [source row][column of the tile]
  int* const axes = reinterpret_cast<int*>(wide + tiling.rows() * (tiling.tile + 1));

  const int n = static_cast<int>(blockIdx.z), tile = tiling.tile, wide_pitch = tile + 1;
  const int* const target = recipes.target(n);
  const int left = static_cast<int>(blockIdx.x) * tile, top = static_cast<int>(blockIdx.y) * tile;
  const int rows = min(tile, min(target[0], recipes.height) - top);
  const int columns = min(tile, min(target[1], recipes.width) - left);
  if (columns <= 0 || rows <= 0) return;

  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const Axis x_axis = copied(recipes.across(n), left, columns, axes);
  const Axis y_axis = copied(recipes.down(n), top, rows, axes + tile * recipes.stride());
  __syncthreads();

  const ImageSize from{sizes[2 * n + 1], sizes[2 * n]};
  const std::uint8_t* const photo = photos.data + n * photos.slot_bytes;
  const int first_x = x_axis.first(0), first_y = y_axis.first(0);
  const int under_x = x_axis.first(columns - 1) + x_axis.taken(columns - 1) - first_x;
  const int under_y = y_axis.first(rows - 1) + y_axis.taken(rows - 1) - first_y;
  for (int group = 0; group < under_y; group += kLanes) {
    stage_rows(photo, from, first_y + group, first_y + under_y, first_x, under_x, stage);
    __syncthreads();
    for (int x = warp; x < columns; x += kWarps) {
      const unsigned* source = stage + (x_axis.first(x) - first_x) * kPitch + lane;
      const int* const weights = x_axis.weights(x);
      const int taken = x_axis.taken(x);
      Sums sums;
      for (int k = 0; k < taken; ++k) sums.add(source[k * kPitch], weights[k]);
      wide[(group + lane) * wide_pitch + x] = sums.packed();
    }
    __syncthreads();
  }

  const int red = bgr ? 2 : 0;
  for (int i = thread; i < rows * tile; i += kBlock) {
    const int x = i % tile, y = i / tile;
    if (x >= columns) continue;
    const unsigned* source = wide + (y_axis.first(y) - first_y) * wide_pitch + x;
    const int* const weights = y_axis.weights(y);
    const int taken = y_axis.taken(y);
    Sums sums;
    for (int k = 0; k < taken; ++k) sums.add(source[k * wide_pitch], weights[k]);
    const unsigned pixel = sums.packed();
    std::uint8_t* const p =
        out + ((std::int64_t{n} * recipes.height + top + y) * recipes.width + left + x) * 3;
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

void launch(FitRule fit, bool bgr, const Tiling& tiling, Recipes recipes, CudaRun& run) {
  const auto photos = static_cast<unsigned>(run.out(0).dims[0]);
  const int tile = tiling.tile;
  const int* const sizes = run.in(1).as<int>();
  recipes.memory = reinterpret_cast<int*>(run.scratch());
  const dim3 weights(blocks_for(std::int64_t{recipes.height + recipes.width} * recipes.taps), photos);
  make_recipes<<<weights, kBlock, 0, run.stream()>>>(fit, sizes, recipes, run.out(1).as<float>());
  const dim3 tiles(blocks_for(recipes.width, tile), blocks_for(recipes.height, tile), photos);
  resize<<<tiles, kBlock, tiling.shared_bytes(), run.stream()>>>(bgr, tiling, run.photos(), sizes, recipes,
                                                                 run.out(0).as<std::uint8_t>());
  cuda_check_launch("resize_image");
}

// TensorFlow's rules: a thread a pixel of the slot, in the order of operations of cpu/tf_bilinear.cpp.
struct TfResize {
  FitRule fit;
  bool half_pixel, bgr;
  float scale;
  float mean[3] = {0, 0, 0}, std[3] = {1, 1, 1};

  explicit TfResize(const ResizeImage& op)
      : fit(op), half_pixel(op.rule == ResizeRule::kTfHalfPixel), bgr(op.bgr), scale(op.scale) {
    for (std::size_t c = 0; c < op.mean.size(); ++c) mean[c] = op.mean[c], std[c] = op.std[c];
  }

  struct Tap {
    int lower, upper;
    float above;
  };
  __device__ Tap tap(int i, int in, int out) const {
    const float step = static_cast<float>(in) / static_cast<float>(out), at = static_cast<float>(i);
    const float source = half_pixel ? (at + 0.5f) * step - 0.5f : at * step, whole = floorf(source);
    const int upper = min(static_cast<int>(ceilf(source)), in - 1);
    return {min(max(static_cast<int>(whole), 0), upper), upper, source - whole};
  }
};

__global__ void __launch_bounds__(kBlock)
    resize_tf(const __grid_constant__ TfResize op, CudaPhotos photos, const int* sizes, float* out,
              int height, int width, float* geometry) {
  const int n = static_cast<int>(blockIdx.y), in_height = sizes[2 * n], in_width = sizes[2 * n + 1];
  const int i = static_cast<int>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  const NetworkSize to = network_size(op.fit, in_width, in_height);
  if (i == 0)
    for (std::size_t g = 0; g < 6; ++g) geometry[6 * n + g] = to.geometry[g];
  if (i >= height * width) return;
  const int y = i / width, x = i % width;
  float* const pixel = out + (static_cast<std::int64_t>(n) * height * width + i) * 3;
  if (y >= to.size.height || x >= to.size.width) {
    pixel[0] = pixel[1] = pixel[2] = 0;
    return;
  }
  const TfResize::Tap down = op.tap(y, in_height, to.size.height),
                      across = op.tap(x, in_width, to.size.width);
  const std::uint8_t* const photo = photos.data + n * photos.slot_bytes;
  const auto at = [&](int row, int column) {
    return photo + (static_cast<std::int64_t>(row) * in_width + column) * 3;
  };
  const std::uint8_t* const corners[4] = {at(down.lower, across.lower), at(down.lower, across.upper),
                                          at(down.upper, across.lower), at(down.upper, across.upper)};
#pragma unroll
  for (int c = 0; c < 3; ++c) {
    const int from = op.bgr ? 2 - c : c;
    const auto level = [&](int corner) {
      return (static_cast<float>(corners[corner][from]) * op.scale - op.mean[c]) / op.std[c];
    };
    const float top_left = level(0), bottom_left = level(2);
    const float top = top_left + (level(1) - top_left) * across.above;
    const float bottom = bottom_left + (level(3) - bottom_left) * across.above;
    pixel[c] = top + (bottom - top) * down.above;
  }
}

void launch(const TfResize& op, CudaRun& run) {
  const Shape& dims = run.out(0).dims;
  if (dims[0] == 0) return;
  const dim3 grid(blocks_for(dims[1] * dims[2]), static_cast<unsigned>(dims[0]));
  resize_tf<<<grid, kBlock, 0, run.stream()>>>(op, run.photos(), run.in(1).as<int>(), run.out(0).as<float>(),
                                               static_cast<int>(dims[1]), static_cast<int>(dims[2]),
                                               run.out(1).as<float>());
  cuda_check_launch("resize_image");
}

// OpenCV's bicubic rule (image/resize_cubic.cpp), a thread a pixel of the canvas.
namespace cubic {

constexpr int kColumns = 32, kRows = 8;  // of a block
constexpr int kTaps = 4;

struct Tap {
  int first;
  float weights[kTaps];
};

__device__ float kernel_at(double t) {
  constexpr double a = -0.75;
  const double weight =
      t <= 1 ? ((a + 2) * t - (a + 3)) * t * t + 1 : ((a * t - 5 * a) * t + 8 * a) * t - 4 * a;
  return static_cast<float>(weight);
}

__device__ Tap tap(int i, int from, int to) {
  const double scale = static_cast<double>(from) / to;
  const double at = (i + 0.5) * scale - 0.5, low = floor(at);
  const double first = static_cast<float>(at - low) + 1.0f;
  return {static_cast<int>(low) - 1,
          {kernel_at(first), kernel_at(first - 1), kernel_at(2 - first), kernel_at(3 - first)}};
}

__device__ float weighted(const float (&p)[kTaps], const float (&w)[kTaps]) {
  return __fmaf_rn(p[0], w[0], p[1] * w[1]) + __fmaf_rn(p[2], w[2], p[3] * w[3]);
}

// Four pixels of a row, `first` on, held inside it, as the 12 bytes of three words.
struct Pixels {
  unsigned words[3];

  __device__ Pixels(const std::uint8_t* line, int first, int width, const std::uint8_t* end) {
    const std::uint8_t* const from = line + 3 * first;
    if (first >= 0 && first + kTaps <= width && from + 16 <= end) {
      const unsigned shift = 8 * (reinterpret_cast<std::uintptr_t>(from) % 4);
      const auto* const aligned = reinterpret_cast<const unsigned*>(from - shift / 8);
#pragma unroll
      for (int i = 0; i < 3; ++i)
        words[i] = __funnelshift_r(__ldg(aligned + i), __ldg(aligned + i + 1), shift);
      return;
    }
    words[0] = words[1] = words[2] = 0;
#pragma unroll
    for (int i = 0; i < 12; ++i)
      words[i / 4] |= static_cast<unsigned>(line[3 * min(max(first + i / 3, 0), width - 1) + i % 3])
                      << 8 * (i % 4);
  }
  __device__ float level(int pixel, int channel) const {
    const int i = 3 * pixel + channel;
    return static_cast<float>(words[i / 4] >> 8 * (i % 4) & 255u);
  }
};

__global__ void __launch_bounds__(kColumns* kRows)
    resize(FitRule fit, bool bgr, CudaPhotos photos, const int* sizes, std::uint8_t* out, int height,
           int width, float* geometry) {
  __shared__ Tap across[kColumns], down[kRows];
  const int n = static_cast<int>(blockIdx.z), in_height = sizes[2 * n], in_width = sizes[2 * n + 1];
  const int thread = static_cast<int>(threadIdx.x), column = thread % kColumns, row = thread / kColumns;
  const int x = static_cast<int>(blockIdx.x) * kColumns + column,
            y = static_cast<int>(blockIdx.y) * kRows + row;
  if (thread < kColumns) across[thread] = tap(x, in_width, width);
  if (column == 0) down[row] = tap(y, in_height, height);
  if (x == 0 && y == 0) {
    const NetworkSize to = network_size(fit, in_width, in_height);
    for (std::size_t g = 0; g < 6; ++g) geometry[6 * n + g] = to.geometry[g];
  }
  __syncthreads();
  if (x >= width || y >= height) return;
  const Tap columns = across[column], rows = down[row];
  const std::uint8_t* const photo = photos.data + n * photos.slot_bytes;
  const std::uint8_t* const end = photo + std::int64_t{3} * in_width * in_height;
  float sums[3][kTaps];
#pragma unroll
  for (int k = 0; k < kTaps; ++k) {
    const std::int64_t source = min(max(rows.first + k, 0), in_height - 1);
    const Pixels pixels(photo + source * in_width * 3, columns.first, in_width, end);
#pragma unroll
    for (int c = 0; c < 3; ++c)
      sums[c][k] = weighted({pixels.level(0, c), pixels.level(1, c), pixels.level(2, c), pixels.level(3, c)},
                            columns.weights);
  }
  std::uint8_t* const to = out + ((static_cast<std::int64_t>(n) * height + y) * width + x) * 3;
#pragma unroll
  for (int c = 0; c < 3; ++c) {
    constexpr float kRound = 12582912.f;  // 1.5 * 2^23: what is added to it loses its fraction
    const float level = (weighted(sums[c], rows.weights) + kRound) - kRound;
    to[bgr ? 2 - c : c] = static_cast<std::uint8_t>(fminf(fmaxf(level, 0.0f), 255.0f));
  }
}

void launch(FitRule fit, bool bgr, CudaRun& run) {
  const Shape& dims = run.out(0).dims;
  if (dims[0] == 0) return;
  const dim3 grid(blocks_for(dims[2], kColumns), blocks_for(dims[1], kRows), static_cast<unsigned>(dims[0]));
  resize<<<grid, kColumns * kRows, 0, run.stream()>>>(
      fit, bgr, run.photos(), run.in(1).as<int>(), run.out(0).as<std::uint8_t>(), static_cast<int>(dims[1]),
      static_cast<int>(dims[2]), run.out(1).as<float>());
  cuda_check_launch("resize_image");
}

}  // namespace cubic

}  // namespace

CudaKernel resize_image_cuda() {
  return {
      .op = &kOpInfo<ResizeImage>, .dtypes = {DType::kU8}, .prepare = [](CudaPrepare& p) {
        const auto& op = p.op<ResizeImage>();
        if (op.rule == ResizeRule::kCvCubic)
          return cuda_step([fit = FitRule(op), bgr = op.bgr](CudaRun& run) { cubic::launch(fit, bgr, run); });
        if (op.to_float()) return cuda_step([resize = TfResize(op)](CudaRun& run) { launch(resize, run); });
        const Tiling tiling = choose_tiling(p);
        const Shape& dims = p.output(0).dims;
        const Recipes recipes{nullptr, static_cast<int>(dims[1]), static_cast<int>(dims[2]), tiling.taps};
        p.request_scratch(static_cast<std::size_t>(dims[0] * recipes.ints()) * sizeof(int));
        cuda_check(cudaFuncSetAttribute(resize, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                        static_cast<int>(tiling.shared_bytes())),
                   "resize_image");
        return cuda_step([fit = FitRule(op), bgr = op.bgr, tiling, recipes](CudaRun& run) {
          launch(fit, bgr, tiling, recipes, run);
        });
      }};
}

}  // namespace osprey
