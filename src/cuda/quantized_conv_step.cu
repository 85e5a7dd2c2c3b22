// As matrix products: of the pixels' windows (rows) by the weights, 64 bytes of the windows at a time,
// kStages of them under way. A window's bytes are its taps one after the other, each with its channels padded
// to chunks of 16 bytes; a block gathers them from the map, where zeros stand for what lies beyond it. Sums
// are exact, so the result does not depend on the tiles.
//
// The packed weight has the outputs of each group that a warp multiplies in such an order that a thread's
// sums of a pixel are neighbours, which it reads the residual for, and stores, at once.
#include <algorithm>
#include <array>
#include <span>
#include <vector>

#include <fmt/format.h>

#include "cuda/activations.cuh"
#include "cuda/integer_tensor_core.cuh"
#include "cuda/integers.cuh"
#include "cuda/quantized_conv_step.h"
#include "ops/quantized_conv.h"

namespace osprey {
namespace {

using namespace cuda;

constexpr int kChunk = 16, kRowChunks = 4, kRow = kChunk * kRowChunks;  // bytes of a row of a stage
constexpr int kStages = 4;

// Outputs in whose order a lane's sums of a pixel are neighbours: those of a warp, or what 16 bytes of each
// of four lanes hold.
constexpr int group_of(int warp_outputs, std::size_t bytes_each) {
  return std::min(warp_outputs, 64 / static_cast<int>(bytes_each));
}

constexpr int kOutputPadding = 128;  // outputs are padded to, whatever the tile

struct Problem {
  const void *x, *residual;
  const std::int8_t* weight;
  const float *scale, *bias;  // of the padded outputs
  void* y;
  const int* live;                      // images
  std::int64_t image;                   // bytes of x
  int images, height, width, channels;  // of x
  int out_height, out_width, outputs, kernel[2], stride[2], dilation[2], top, left;
  int chunks, steps;                              // chunks: of a tap
  int output_tiles, channels_each, outputs_each;  // each: of a group, for the plain kernel
  Activation activation;
  int upsampling;
  bool signed_residual;
  float residual_scale, inverse;  // inverse: of the scale of y
  DType to;

  __device__ int pixels() const { return out_height * out_width; }
};

struct Pixel {
  int n, row, column;
  __device__ Pixel(const Problem& p, int index)
      : n(index / p.pixels()), row((index - n * p.pixels()) / p.out_width), column(index % p.out_width) {
    column = index - n * p.pixels() - row * p.out_width;
  }
};

// --- The epilogue
// --------------------------------------------------------------------------------------------

// kCount neighbours of a pixel of `outputs`, of which `there` exist, in the largest pieces that divide a
// pixel.
template <int kCount, int kEach = kCount, class T>
__device__ void copy_neighbours(const T* from, T* to, int outputs, int there) {
  if (kEach == 1 || outputs % kEach == 0) {
    using Piece = Vector<T, kEach>;
#pragma unroll
    for (int k = 0; k < kCount; k += kEach)
      if (k < there) *reinterpret_cast<Piece*>(to + k) = *reinterpret_cast<const Piece*>(from + k);
  } else if constexpr (kEach > 1) {
    copy_neighbours<kCount, kEach / 2>(from, to, outputs, there);
  }
}

template <class T>
__device__ float number(T v) {
  if constexpr (sizeof(T) == 1)
    return static_cast<float>(v);
  else
    return widen(v);
}

// Where the residual of a pixel begins.
__device__ inline std::int64_t residual_at(const Problem& p, int pixel) {
  if (p.upsampling == 1) return static_cast<std::int64_t>(pixel) * p.outputs;
  const Pixel at(p, pixel);
  const int height = p.out_height / p.upsampling, width = p.out_width / p.upsampling;
  return (static_cast<std::int64_t>(at.n * height + at.row / p.upsampling) * width +
          at.column / p.upsampling) *
         p.outputs;
}

template <class T, int kCount>
__device__ void add_residual(const Problem& p, std::int64_t at, int there, float scale, float (&v)[kCount]) {
  alignas(16) T r[kCount] = {};
  copy_neighbours<kCount>(static_cast<const T*>(p.residual) + at, r, p.outputs, there);
#pragma unroll
  for (int k = 0; k < kCount; ++k) v[k] = __fmaf_rn(number(r[k]), scale, v[k]);
}

// From a multiple of kCount, or one.
template <int kCount>
__device__ void load_constants(const float* from, float (&to)[kCount]) {
  if constexpr (kCount % 4 == 0) {
#pragma unroll
    for (int k = 0; k < kCount; k += 4) {
      const float4 four = __ldg(reinterpret_cast<const float4*>(from + k));
      to[k] = four.x, to[k + 1] = four.y, to[k + 2] = four.z, to[k + 3] = four.w;
    }
  } else {
    static_assert(kCount == 1);
    to[0] = __ldg(from);
  }
}

// Outputs from `output` on of a pixel.
template <class T, int kCount>
__device__ void finish(const Problem& p, const int (&sums)[kCount], int pixel, int output) {
  const int there = min(p.outputs - output, kCount);
  if (there <= 0) return;
  float scale[kCount], v[kCount];
  load_constants(p.scale + output, scale);
  load_constants(p.bias + output, v);
#pragma unroll
  for (int k = 0; k < kCount; ++k) v[k] = __fmaf_rn(__int2float_rn(sums[k]), scale[k], v[k]);
  if (p.residual) {
    const std::int64_t at = residual_at(p, pixel) + output;
    if constexpr (sizeof(T) > 1)
      add_residual<T>(p, at, there, 1.f, v);
    else if (p.signed_residual)
      add_residual<std::int8_t>(p, at, there, p.residual_scale, v);
    else
      add_residual<std::uint8_t>(p, at, there, p.residual_scale, v);
  }
  activate_all<T>(p.activation, v);
  alignas(16) T y[kCount];
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    if constexpr (sizeof(T) == 1)
      y[k] = quantized<T>(v[k] * p.inverse);
    else
      y[k] = narrow<T>(v[k]);
  }
  copy_neighbours<kCount>(y, static_cast<T*>(p.y) + static_cast<std::int64_t>(pixel) * p.outputs + output,
                          p.outputs, there);
}

// finish.template operator()<T>() with the type of the result.
template <class F>
__device__ void with_result(DType type, F finish) {
  switch (type) {
    case DType::kI8:
      return finish.template operator()<std::int8_t>();
    case DType::kU8:
      return finish.template operator()<std::uint8_t>();
    case DType::kF16:
      return finish.template operator()<__half>();
    default:
      return finish.template operator()<float>();
  }
}

// --- On the tensor cores
// -------------------------------------------------------------------------------------

template <int kPixels_, int kOutputs_, int kWarpPixels_, int kWarpOutputs_>
struct Tile {
  static constexpr int kPixels = kPixels_, kOutputs = kOutputs_;
  static constexpr int kWarpPixels = kWarpPixels_, kWarpOutputs = kWarpOutputs_;
  static constexpr int kWarpsAcross = kOutputs / kWarpOutputs;
  static constexpr int kThreads = 32 * kWarpsAcross * (kPixels / kWarpPixels);
  static constexpr int kStageBytes = (kPixels + kOutputs) * kRow;
  // Rows of 64 bytes that a thread copies a chunk of.
  static constexpr int kLines = kThreads / kRowChunks;
  static constexpr int kPixelLines = kPixels / kLines, kOutputLines = (kOutputs + kLines - 1) / kLines;
  static_assert(kPixels % kLines == 0);
};

// Where chunk c of a row lies: eight rows of the same c fall into different banks.
__device__ inline int swizzled(int row, int chunk) {
  return row * kRow + ((chunk ^ (row >> 1 & (kRowChunks - 1))) * kChunk);
}

// A thread's chunk of the windows: it goes through taps and channels.
struct Place {
  int tap[2]{0, 0}, chunk;

  __device__ void move(const Problem& p, int chunks) {
    chunk += chunks;
    while (chunk >= p.chunks) {
      chunk -= p.chunks;
      if (++tap[1] == p.kernel[1]) tap[1] = 0, ++tap[0];
    }
  }
};

// A pixel's window.
struct Window {
  const std::uint8_t* image;
  int top, left;

  __device__ void begin(const Problem& p, int pixel) {
    const Pixel at(p, pixel);
    image = static_cast<const std::uint8_t*>(p.x) + at.n * p.image;
    top = at.row * p.stride[0] - p.top;
    left = at.column * p.stride[1] - p.left;
  }
};

// kBytes: what the bytes of a pixel are a multiple of.
template <int kBytes>
__device__ void copy_chunk(const Problem& p, const Window& window, const Place& place, std::byte* to) {
  const int y = window.top + place.tap[0] * p.dilation[0], x = window.left + place.tap[1] * p.dilation[1];
  const bool there = static_cast<unsigned>(y) < static_cast<unsigned>(p.height) &&
                     static_cast<unsigned>(x) < static_cast<unsigned>(p.width) && place.tap[0] < p.kernel[0];
  const int channel = place.chunk * kChunk;
  const std::uint8_t* const from = window.image + (there ? (y * p.width + x) * p.channels + channel : 0);
  if constexpr (kBytes == kChunk) {
    copy_async(to, from, there);
  } else if constexpr (kBytes == 8) {
    copy_8_async(to, from, there);
    const bool more = there && channel + 8 < p.channels;
    copy_8_async(to + 8, more ? from + 8 : window.image, more);
  } else {
    alignas(kChunk) std::uint8_t bytes[kChunk];
#pragma unroll
    for (int k = 0; k < kChunk; ++k) bytes[k] = there && channel + k < p.channels ? from[k] : 0;
    *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(bytes);
  }
}

// Sums of a warp: of tiles of 16 pixels by 8 outputs.
template <class T>
struct WarpSums {
  static constexpr int kDown = T::kWarpPixels / 16, kAcross = T::kWarpOutputs / 8;
  int tiles[kDown][kAcross][4] = {};

  // Adds the products of a stage, whose rows of the warp begin at `pixels` and `outputs`.
  template <class X>
  __device__ void add(const std::byte* stage, int first_pixel, int first_output) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const std::byte* const weights = stage + T::kPixels * kRow;
#pragma unroll
    for (int step = 0; step < kRowChunks / 2; ++step) {
      unsigned a[kDown][4];
#pragma unroll
      for (int i = 0; i < kDown; ++i)
        load_tiles(a[i], stage + swizzled(first_pixel + 16 * i + lane % 16, 2 * step + lane / 16));
#pragma unroll
      for (int j = 0; j < kAcross; j += 2) {
        unsigned b[4];
        load_tiles(
            b, weights + swizzled(first_output + 8 * j + lane % 8 + lane / 16 * 8, 2 * step + lane / 8 % 2));
#pragma unroll
        for (int i = 0; i < kDown; ++i) {
          multiply_add<X>(tiles[i][j], a[i], b[0], b[1]);
          multiply_add<X>(tiles[i][j + 1], a[i], b[2], b[3]);
        }
      }
    }
  }

  template <class Y>
  __device__ void finish_all(const Problem& p, int first_pixel, int end, int first_output) const {
    constexpr int kGroup = group_of(T::kWarpOutputs, sizeof(Y)), kNeighbours = kGroup / 4;
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int i = 0; i < 2 * kDown; ++i) {
      const int pixel = first_pixel + 8 * i + lane / 4;
      if (pixel >= end) return;
#pragma unroll
      for (int j = 0; j < kAcross; j += kGroup / 8) {
        int neighbours[kNeighbours];
#pragma unroll
        for (int k = 0; k < kNeighbours; ++k) neighbours[k] = tiles[i / 2][j + k / 2][i % 2 * 2 + k % 2];
        finish<Y>(p, neighbours, pixel, first_output + 8 * j + lane % 4 * kNeighbours);
      }
    }
  }
};

template <class X, class T, int kBytes>
__global__ void __launch_bounds__(T::kThreads) multiply(const __grid_constant__ Problem p) {
  extern __shared__ uint4 memory[];
  auto* const stages = reinterpret_cast<std::byte*>(memory);
  const int end = (p.live ? min(*p.live, p.images) : p.images) * p.pixels();
  const int tile = static_cast<int>(blockIdx.x) / p.output_tiles, first_pixel = tile * T::kPixels;
  const int first_output = (static_cast<int>(blockIdx.x) - tile * p.output_tiles) * T::kOutputs;
  if (first_pixel >= end) return;

  const int thread = static_cast<int>(threadIdx.x), line = thread / kRowChunks, column = thread % kRowChunks;
  Place place{.chunk = 0};
  place.move(p, column);
  Window windows[T::kPixelLines];
#pragma unroll
  for (int i = 0; i < T::kPixelLines; ++i)
    windows[i].begin(p, min(first_pixel + line + i * T::kLines, end - 1));
  const std::int64_t weight_row = static_cast<std::int64_t>(p.steps) * kRow;
  const std::int8_t* weights = p.weight + (first_output + line) * weight_row + column * kChunk;

  const auto copy = [&](int step) {
    if (step < p.steps) {
      std::byte* const stage = stages + step % kStages * T::kStageBytes;
#pragma unroll
      for (int i = 0; i < T::kPixelLines; ++i)
        copy_chunk<kBytes>(p, windows[i], place, stage + swizzled(line + i * T::kLines, column));
#pragma unroll
      for (int i = 0; i < T::kOutputLines; ++i)
        if (const int row = line + i * T::kLines; row < T::kOutputs)
          copy_async(stage + T::kPixels * kRow + swizzled(row, column), weights + i * T::kLines * weight_row,
                     true);
      weights += kRow;
      place.move(p, kRowChunks);
    }
    commit_copies();
  };

  for (int step = 0; step < kStages - 1; ++step) copy(step);
  const int warp = thread / 32;
  const int warp_pixel = warp / T::kWarpsAcross * T::kWarpPixels,
            warp_output = warp % T::kWarpsAcross * T::kWarpOutputs;
  WarpSums<T> sums;
  for (int step = 0; step < p.steps; ++step) {
    await_copies<kStages - 2>();
    __syncthreads();
    copy(step + kStages - 1);
    sums.template add<X>(stages + step % kStages * T::kStageBytes, warp_pixel, warp_output);
  }

  with_result(p.to, [&]<class Y>() {
    sums.template finish_all<Y>(p, first_pixel + warp_pixel, end, first_output + warp_output);
  });
}

// --- Of groups, a thread for each sum
// ------------------------------------------------------------------------

template <class X>
__global__ void convolve(const __grid_constant__ Problem p) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int images = p.live ? min(*p.live, p.images) : p.images;
  if (i >= static_cast<std::int64_t>(images) * p.pixels() * p.outputs) return;
  const int pixel = static_cast<int>(i / p.outputs), output = static_cast<int>(i % p.outputs);
  const int first = output / p.outputs_each * p.channels_each;
  Window window;
  window.begin(p, pixel);
  const auto* const image = reinterpret_cast<const X*>(window.image);
  const std::int8_t* weight =
      p.weight + static_cast<std::int64_t>(output) * p.kernel[0] * p.kernel[1] * p.channels_each;
  int sums[1]{};
  for (int a = 0; a < p.kernel[0]; ++a)
    for (int b = 0; b < p.kernel[1]; ++b, weight += p.channels_each) {
      const int y = window.top + a * p.dilation[0], x = window.left + b * p.dilation[1];
      if (y < 0 || y >= p.height || x < 0 || x >= p.width) continue;
      const X* const from = image + (y * p.width + x) * p.channels + first;
      for (int k = 0; k < p.channels_each; ++k) sums[0] += static_cast<int>(from[k]) * weight[k];
    }
  with_result(p.to, [&]<class Y>() { finish<Y>(p, sums, pixel, output); });
}

// --- On the host
// ---------------------------------------------------------------------------------------------

enum Input : std::size_t { kX, kWeight, kScale, kBias, kResidual };

using Launch = void (*)(const Problem&, unsigned blocks, cudaStream_t stream);

template <class X, class T, int kBytes>
void launch_multiply(const Problem& p, unsigned blocks, cudaStream_t stream) {
  constexpr int kShared = kStages * T::kStageBytes;
  const auto kernel = multiply<X, T, kBytes>;
  if (kShared > 48 << 10)
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared),
               "quantized_conv");
  kernel<<<blocks, T::kThreads, kShared, stream>>>(p);
}

template <class X>
void launch_convolve(const Problem& p, unsigned blocks, cudaStream_t stream) {
  convolve<X><<<blocks, kBlock, 0, stream>>>(p);
}

// A way to compute it.
struct Variant {
  std::string_view name;
  int pixels, outputs, warp_outputs;  // of a tile, and of a warp of it
  Launch of_i8, of_u8;
};

template <class T, int kBytes>
constexpr Variant variant(std::string_view name) {
  return {name,
          T::kPixels,
          T::kOutputs,
          T::kWarpOutputs,
          launch_multiply<std::int8_t, T, kBytes>,
          launch_multiply<std::uint8_t, T, kBytes>};
}

using Large = Tile<128, 128, 32, 64>;
using Tall = Tile<128, 64, 32, 64>;
using Small = Tile<64, 64, 16, 64>;
using Narrow = Tile<128, 32, 32, 32>;
using Tiny = Tile<32, 32, 16, 32>;

constexpr std::array kOf16Bytes{variant<Large, 16>("own 128x128"), variant<Tall, 16>("own 128x64"),
                                variant<Small, 16>("own 64x64"), variant<Narrow, 16>("own 128x32"),
                                variant<Tiny, 16>("own 32x32")};
constexpr std::array kOf8Bytes{variant<Narrow, 8>("own 128x32, 8 bytes")};
constexpr std::array kOfBytes{variant<Small, 1>("own 64x64, bytes")};

std::int64_t blocks_of(const Variant& v, std::int64_t pixels, std::int64_t outputs) {
  return (pixels + v.pixels - 1) / v.pixels * ((outputs + v.outputs - 1) / v.outputs);
}

std::span<const Variant> variants_for(std::int64_t channels) {
  if (channels % 16 == 0) return kOf16Bytes;
  if (channels % 8 == 0) return kOf8Bytes;
  return kOfBytes;
}

// The work of the busiest multiprocessor: sums, and what is copied for them.
double work_of(const Variant& v, std::int64_t pixels, std::int64_t outputs, int multiprocessors) {
  const std::int64_t rounds = (blocks_of(v, pixels, outputs) + multiprocessors - 1) / multiprocessors;
  return static_cast<double>(rounds * v.pixels * v.outputs) * (1 + 32.0 / v.pixels + 32.0 / v.outputs);
}

// Those that take it, the most promising first.
std::vector<const Variant*> variants_of(const CudaPrepare& p) {
  const Shape& y = p.output(0).dims;
  std::vector<const Variant*> out;
  for (const Variant& v : variants_for(p.input(0).dims[1])) out.push_back(&v);
  std::ranges::stable_sort(out, {}, [&](const Variant* v) {
    return work_of(*v, y[0] * y[2] * y[3], y[1], p.device().multiprocessors);
  });
  return out;
}

std::int64_t padded(std::int64_t count, std::int64_t to) { return (count + to - 1) / to * to; }

// Which output a row of the packed weight is: lane 4 g + t of a warp has columns 2t and 2t + 1 of each tile
// of 8, which are to be its neighbours.
std::int64_t output_of(std::int64_t row, int group) {
  const std::int64_t in_group = row % group, tile = in_group / 8, t = in_group % 8 / 2, e = in_group % 2;
  return row - in_group + t * (group / 4) + 2 * tile + e;
}

// From [O,C,kh,kw] to rows of taps of padded channels.
std::vector<std::int8_t> packed(const Tensor& weight, int group, std::int64_t row_bytes) {
  const std::int64_t outputs = weight.dim(0), channels = weight.dim(1), taps = weight.dim(2) * weight.dim(3);
  const std::int64_t rows = padded(outputs, kOutputPadding), each = padded(channels, kChunk);
  const auto from = weight.values<std::int8_t>();
  std::vector<std::int8_t> out(static_cast<std::size_t>(rows * row_bytes));
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t output = output_of(row, group);
    if (output >= outputs) continue;
    for (std::int64_t c = 0; c < channels; ++c)
      for (std::int64_t tap = 0; tap < taps; ++tap)
        out[static_cast<std::size_t>(row * row_bytes + tap * each + c)] =
            from[static_cast<std::size_t>((output * channels + c) * taps + tap)];
  }
  return out;
}

// [O,taps,C/groups]
std::vector<std::int8_t> plain(const Tensor& weight) {
  const std::int64_t outputs = weight.dim(0), channels = weight.dim(1), taps = weight.dim(2) * weight.dim(3);
  const auto from = weight.values<std::int8_t>();
  std::vector<std::int8_t> out(from.size());
  for (std::int64_t o = 0; o < outputs; ++o)
    for (std::int64_t c = 0; c < channels; ++c)
      for (std::int64_t tap = 0; tap < taps; ++tap)
        out[static_cast<std::size_t>((o * taps + tap) * channels + c)] =
            from[static_cast<std::size_t>((o * channels + c) * taps + tap)];
  return out;
}

template <class T>
DeviceBuffer on_device(const std::vector<T>& values) {
  return DeviceBuffer::holding(std::as_bytes(std::span<const T>(values)));
}

class QuantizedConvStep final : public CudaStep {
 public:
  // `variant`: null: the plain kernel.
  QuantizedConvStep(CudaPrepare& p, const Variant* variant) {
    const QuantizedConv& op = p.op<QuantizedConv>();
    const Shape &x = p.input(kX).dims, &y = p.output(0).dims, &weight = p.input(kWeight).dims;
    const std::int64_t pixels = y[0] * y[2] * y[3];
    flops_ =
        2.0 * static_cast<double>(weight[1] * weight[2] * weight[3]) * static_cast<double>(element_count(y));
    problem_ = described(p, op);
    is_signed_ = p.input(kX).dtype == DType::kI8;
    scale_ = quantized_constants(p, kScale, op.x_scale);
    bias_ = quantized_constants(p, kBias, 1);
    problem_.scale = scale_->as<const float>();
    problem_.bias = bias_->as<const float>();
    if (variant)
      multiply_tiles(p, *variant, pixels);
    else
      compute_plainly(p, pixels);
    problem_.weight = weight_->as<const std::int8_t>();
    check(blocks_ < (std::int64_t{1} << 31) && pixels < (std::int64_t{1} << 31) &&
              x[1] * x[2] * x[3] < (std::int64_t{1} << 31),
          "{}: {} pixels", p.node().name, pixels);
  }

  void launch(CudaRun& run) override {
    if (blocks_ == 0) return;
    Problem problem = problem_;
    problem.x = run.in(kX).data;
    problem.y = run.out(0).data;
    problem.live = run.out(0).rows;
    if (run.has_input(kResidual)) {
      problem.residual = run.in(kResidual).data;
      problem.signed_residual = run.in(kResidual).dtype == DType::kI8;
    }
    launch_(problem, static_cast<unsigned>(blocks_), run.stream());
    cuda_check_launch("quantized_conv");
  }
  std::string detail() const override { return detail_; }
  double flops() const override { return flops_; }

 private:
  static Problem described(const CudaPrepare& p, const QuantizedConv& op) {
    const Shape &x = p.input(kX).dims, &y = p.output(0).dims, &weight = p.input(kWeight).dims;
    const auto size = [](std::int64_t v) { return static_cast<int>(v); };
    const auto pads = op.window(weight[2], weight[3]).pads_of(x[2], x[3]);
    Problem out{};
    out.image = x[1] * x[2] * x[3];
    out.images = size(x[0]), out.channels = size(x[1]), out.height = size(x[2]), out.width = size(x[3]);
    out.outputs = size(y[1]), out.out_height = size(y[2]), out.out_width = size(y[3]);
    for (std::size_t i = 0; i < 2; ++i) {
      out.kernel[i] = size(weight[2 + i]);
      out.stride[i] = op.stride[i];
      out.dilation[i] = op.dilation[i];
    }
    out.top = pads[0], out.left = pads[1];
    out.chunks = size(padded(x[1], kChunk) / kChunk);
    out.steps = size(padded(out.chunks * weight[2] * weight[3], kRowChunks) / kRowChunks);
    out.channels_each = size(weight[1]), out.outputs_each = out.outputs / op.groups;
    out.activation = op.activation;
    out.upsampling = op.residual_upsampling;
    out.residual_scale = op.residual_scale, out.inverse = 1 / op.y_scale;
    out.to = p.output(0).dtype;
    return out;
  }

  void multiply_tiles(CudaPrepare& p, const Variant& v, std::int64_t pixels) {
    blocks_ = blocks_of(v, pixels, problem_.outputs);
    problem_.output_tiles = (problem_.outputs + v.outputs - 1) / v.outputs;
    launch_ = is_signed_ ? v.of_i8 : v.of_u8;
    detail_ = v.name;
    const int group = group_of(v.warp_outputs, size_of(problem_.to));
    weight_ = p.shared(fmt::format("quantized_conv {} {}", group, p.node().inputs[kWeight]), [&] {
      return on_device(packed(p.weight(kWeight), group, std::int64_t{problem_.steps} * kRow));
    });
  }

  void compute_plainly(CudaPrepare& p, std::int64_t pixels) {
    blocks_ = (pixels * problem_.outputs + kBlock - 1) / kBlock;
    launch_ = is_signed_ ? launch_convolve<std::int8_t> : launch_convolve<std::uint8_t>;
    detail_ = "own, plain";
    weight_ = p.shared(fmt::format("quantized_conv plain {}", p.node().inputs[kWeight]),
                       [&] { return on_device(plain(p.weight(kWeight))); });
  }

  Problem problem_{};
  Launch launch_ = nullptr;
  bool is_signed_ = false;
  std::int64_t blocks_ = 0;
  double flops_ = 0;
  std::string detail_;
  std::shared_ptr<const DeviceBuffer> weight_, scale_, bias_;
};

}  // namespace

std::shared_ptr<const DeviceBuffer> quantized_constants(const CudaPrepare& p, std::size_t i, float factor) {
  const auto outputs = static_cast<std::size_t>(padded(p.output(0).dims[1], kOutputPadding));
  const int id = p.has_input(i) ? p.node().inputs[i] : kNoValue;
  return p.shared(fmt::format("quantized_conv vector {} {:a} {}", id, factor, outputs), [&] {
    std::vector<float> out(outputs);
    if (p.has_input(i)) {
      const Tensor given = p.weight(i).to_f32();
      std::transform(given.values<float>().begin(), given.values<float>().end(), out.begin(),
                     [&](float v) { return v * factor; });
    }
    return on_device(out);
  });
}

std::vector<std::string> quantized_matrix_ways(const CudaPrepare& p) {
  if (p.op<QuantizedConv>().groups != 1) return {"own, plain"};
  std::vector<std::string> out;
  for (const Variant* v : variants_of(p)) out.emplace_back(v->name);
  return out;
}

std::unique_ptr<CudaStep> quantized_matrix_step(CudaPrepare& p, const std::string& way) {
  for (const Variant* v : variants_of(p))
    if (v->name == way) return std::make_unique<QuantizedConvStep>(p, v);
  return std::make_unique<QuantizedConvStep>(p, nullptr);
}

}  // namespace osprey
