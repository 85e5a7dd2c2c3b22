// A product of pixels by weights on the tensor cores. What such a layer takes is the latency of what follows
// each other, so little does: a block asks for all channels of its 32 pixels and 32 outputs at once, and for
// its constants and the residual meanwhile; four groups of warps multiply a quarter of the channels each;
// then every thread has four outputs of one pixel to finish, in few instructions, since those are fetched for
// every launch anew.
#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "cuda/activations.cuh"
#include "cuda/early_launch.cuh"
#include "cuda/integer_tensor_core.cuh"
#include "cuda/integers.cuh"
#include "cuda/quantized_1x1_step.h"
#include "cuda/quantized_conv_step.h"
#include "ops/quantized_conv.h"

namespace osprey {
namespace {

using namespace cuda;

constexpr int kPixels = 32, kOutputs = 32;                 // of a block
constexpr int kThreads = 256, kParts = 4;                  // parts: of the channels
constexpr int kChunk = 16, kRowChunks = 4, kRow = 64;      // bytes: of a copy; of a row of a stage
constexpr int kHalf = kRow / 2;                            // bytes that a product of tiles is deep
constexpr int kStage = (kPixels + kOutputs) * kRow;        // bytes
constexpr int kEach = 4;                                   // outputs that a thread finishes
constexpr int kSumRow = kOutputs + 8;                      // of a part's sums: rows fall into different banks
constexpr int kSumBytes = kParts * kPixels * kSumRow * 4;  // of all parts
constexpr int kMostShared = 200 << 10;                     // on devices that have it

static_assert(kThreads == (kPixels + kOutputs) * kRowChunks);  // a row for every four threads
static_assert(kThreads == kPixels * kOutputs / kEach && kThreads == 32 * kParts * (kPixels / 16));

struct Product {
  const void *x, *residual;
  const std::int8_t* weight;  // rows of whole stages
  const float *scale, *bias;  // of the padded outputs
  void* y;
  const int* live;     // images
  int images, pixels;  // pixels: of an image
  int channels, outputs, output_tiles, stages;
  Activation activation;
  bool signed_residual;
  float residual_scale, inverse;  // inverse: of the scale of y
};

// Where chunk c of a row lies: eight rows of the same c fall into different banks.
__device__ inline int swizzled(int row, int chunk) {
  return row * kRow + ((chunk ^ (row >> 1 & (kRowChunks - 1))) * kChunk);
}

// Threads of a row of the pixels, then of the outputs.
__device__ inline int row_of_thread() { return static_cast<int>(threadIdx.x) / kRowChunks; }
__device__ inline int chunk_of_thread() { return static_cast<int>(threadIdx.x) % kRowChunks; }

// All stages of a thread's row of the weights.
__device__ inline void copy_weights(const Product& p, std::byte* stages, int first_output) {
  const int row = row_of_thread() - kPixels;
  if (row < 0) return;
  const std::int8_t* from =
      p.weight + static_cast<std::int64_t>(first_output + row) * p.stages * kRow + chunk_of_thread() * kChunk;
  std::byte* to = stages + kPixels * kRow + swizzled(row, chunk_of_thread());
  for (int s = 0; s < p.stages; ++s, from += kRow, to += kStage) copy_async(to, from, true);
}

// All stages of a thread's row of the pixels. Weights beyond the channels are zeros, so that what is left
// there does not count.
template <int kBytes>
__device__ void copy_pixels(const Product& p, std::byte* stages, int first_pixel, int end) {
  const int row = row_of_thread();
  if (row >= kPixels) return;
  int channel = chunk_of_thread() * kChunk;
  const std::int64_t pixel = min(first_pixel + row, end - 1);
  const auto* from = static_cast<const std::uint8_t*>(p.x) + pixel * p.channels + channel;
  std::byte* to = stages + swizzled(row, chunk_of_thread());
  for (; channel < p.channels; channel += kRow, from += kRow, to += kStage) {
    if constexpr (kBytes == kChunk) {
      copy_async(to, from, true);
    } else {
      copy_8_async(to, from, true);
      if (channel + 8 < p.channels) copy_8_async(to + 8, from + 8, true);
    }
  }
}

// 16 pixels by 32 outputs of a quarter of the channels, to the parts' sums.
template <class X>
__device__ void multiply_part(const Product& p, const std::byte* stages, int* sums) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int part = warp / 2, row = warp % 2 * 16;
  int tiles[kOutputs / 8][4] = {};
  for (int half = part; half * kHalf < p.channels; half += kParts) {
    const std::byte* const stage = stages + half / 2 * kStage;
    const int chunk = half % 2 * 2;
    unsigned a[4];
    load_tiles(a, stage + swizzled(row + lane % 16, chunk + lane / 16));
#pragma unroll
    for (int j = 0; j < kOutputs / 8; j += 2) {
      unsigned b[4];
      load_tiles(b,
                 stage + kPixels * kRow + swizzled(8 * j + lane % 8 + lane / 16 * 8, chunk + lane / 8 % 2));
      multiply_add<X>(tiles[j], a, b[0], b[1]);
      multiply_add<X>(tiles[j + 1], a, b[2], b[3]);
    }
  }
  int* const to = sums + (part * kPixels + row + lane / 4) * kSumRow + lane % 4 * 2;
#pragma unroll
  for (int j = 0; j < kOutputs / 8; ++j)
#pragma unroll
    for (int below = 0; below < 2; ++below)
      *reinterpret_cast<int2*>(to + below * 8 * kSumRow + 8 * j) = {tiles[j][2 * below],
                                                                    tiles[j][2 * below + 1]};
}

__device__ inline void load_four(const float* from, float (&to)[kEach]) {
  const float4 v = __ldg(reinterpret_cast<const float4*>(from));
  to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
}

template <class Y>
__device__ void add_residual(const Product& p, const Vector<Y, kEach>& residual, float (&v)[kEach]) {
#pragma unroll
  for (int k = 0; k < kEach; ++k) {
    if constexpr (sizeof(Y) > 1) {
      v[k] += widen(residual.values[k]);
    } else {
      const auto byte = static_cast<std::uint8_t>(residual.values[k]);
      const float number =
          p.signed_residual ? static_cast<float>(static_cast<std::int8_t>(byte)) : static_cast<float>(byte);
      v[k] = __fmaf_rn(number, p.residual_scale, v[k]);
    }
  }
}

template <class X, class Y, int kBytes>
__global__ void __launch_bounds__(kThreads) multiply(const __grid_constant__ Product p) {
  extern __shared__ uint4 memory[];
  int* const sums = reinterpret_cast<int*>(memory);
  std::byte* const stages = reinterpret_cast<std::byte*>(memory) + kSumBytes;
  begin_next_launch();
  const int tile = static_cast<int>(blockIdx.x) / p.output_tiles, first_pixel = tile * kPixels;
  const int first_output = (static_cast<int>(blockIdx.x) - tile * p.output_tiles) * kOutputs;
  constexpr int kAcross = kOutputs / kEach;
  const int row = static_cast<int>(threadIdx.x) / kAcross,
            column = static_cast<int>(threadIdx.x) % kAcross * kEach;
  const int pixel = first_pixel + row, output = first_output + column;
  copy_weights(p, stages, first_output);
  float scale[kEach], v[kEach];
  load_four(p.scale + output, scale);
  load_four(p.bias + output, v);
  await_launch_before();
  const int end = (p.live ? min(*p.live, p.images) : p.images) * p.pixels;
  if (first_pixel >= end) return;
  copy_pixels<kBytes>(p, stages, first_pixel, end);
  commit_copies();
  const bool there = pixel < end && output < p.outputs;
  const std::int64_t at = static_cast<std::int64_t>(pixel) * p.outputs + output;
  Vector<Y, kEach> y{};
  if (p.residual && there)
    y = *reinterpret_cast<const Vector<Y, kEach>*>(static_cast<const Y*>(p.residual) + at);
  await_copies<0>();
  __syncthreads();
  multiply_part<X>(p, stages, sums);
  __syncthreads();
  if (!there) return;
  int total[kEach] = {};
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    const int4 of = *reinterpret_cast<const int4*>(sums + (part * kPixels + row) * kSumRow + column);
    total[0] += of.x, total[1] += of.y, total[2] += of.z, total[3] += of.w;
  }
#pragma unroll
  for (int k = 0; k < kEach; ++k) v[k] = __fmaf_rn(__int2float_rn(total[k]), scale[k], v[k]);
  if (p.residual) add_residual(p, y, v);
  activate_all<Y>(p.activation, v);
#pragma unroll
  for (int k = 0; k < kEach; ++k) {
    if constexpr (sizeof(Y) == 1)
      y.values[k] = quantized<Y>(v[k] * p.inverse);
    else
      y.values[k] = narrow<Y>(v[k]);
  }
  Y* const to = static_cast<Y*>(p.y) + at;
  if (p.outputs % kEach == 0) {
    *reinterpret_cast<Vector<Y, kEach>*>(to) = y;
    return;
  }
#pragma unroll
  for (int k = 0; k < kEach; ++k)
    if (output + k < p.outputs) to[k] = y.values[k];
}

// --- On the host
// ---------------------------------------------------------------------------------------------

enum Input : std::size_t { kX, kWeight, kScale, kBias, kResidual };

int whole(std::int64_t count, int each) { return static_cast<int>((count + each - 1) / each); }

int shared_bytes(const Product& p) { return kSumBytes + p.stages * kStage; }

Product described(const CudaPrepare& p) {
  const auto& op = p.op<QuantizedConv>();
  const Shape &x = p.input(kX).dims, &y = p.output(0).dims;
  Product out{};
  out.images = static_cast<int>(x[0]), out.pixels = static_cast<int>(x[2] * x[3]);
  out.channels = static_cast<int>(x[1]), out.outputs = static_cast<int>(y[1]);
  out.output_tiles = whole(y[1], kOutputs), out.stages = whole(x[1], kRow);
  out.activation = op.activation;
  out.residual_scale = op.residual_scale, out.inverse = 1 / op.y_scale;
  return out;
}

int most_shared(const CudaPrepare& p) {
  return static_cast<int>(std::min<std::size_t>(kMostShared, p.device().shared_bytes_optin));
}

std::int64_t blocks_of(const Product& p) {
  return (std::int64_t{p.images} * p.pixels + kPixels - 1) / kPixels * p.output_tiles;
}

// [outputs, channels] in whole tiles and stages.
std::vector<std::int8_t> padded(const Tensor& weight) {
  const std::int64_t outputs = weight.dim(0), channels = weight.dim(1);
  const std::int64_t row = std::int64_t{whole(channels, kRow)} * kRow;
  const auto from = weight.values<std::int8_t>();
  std::vector<std::int8_t> out(static_cast<std::size_t>(whole(outputs, kOutputs) * kOutputs * row));
  for (std::int64_t o = 0; o < outputs; ++o)
    std::copy_n(from.begin() + o * channels, channels, out.begin() + o * row);
  return out;
}

template <class X, class Y, int kBytes>
void launch_as(const Product& p, EarlyLaunch how) {
  const auto kernel = multiply<X, Y, kBytes>;
  if (how.shared_bytes > 48 << 10)
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, how.shared_bytes),
               "quantized 1x1");
  launch_early(kernel, how, p);
}

using Launch = void (*)(const Product&, EarlyLaunch);

template <class X, int kBytes>
Launch launch_of(DType to) {
  switch (to) {
    case DType::kI8:
      return launch_as<X, std::int8_t, kBytes>;
    case DType::kU8:
      return launch_as<X, std::uint8_t, kBytes>;
    case DType::kF16:
      return launch_as<X, __half, kBytes>;
    default:
      return launch_as<X, float, kBytes>;
  }
}

class Quantized1x1Step final : public CudaStep {
 public:
  explicit Quantized1x1Step(CudaPrepare& p) : product_(described(p)) {
    flops_ =
        2.0 * static_cast<double>(product_.channels) * static_cast<double>(element_count(p.output(0).dims));
    weight_ = p.shared(fmt::format("quantized 1x1 {}", p.node().inputs[kWeight]), [&] {
      return DeviceBuffer::holding(std::as_bytes(std::span<const std::int8_t>(padded(p.weight(kWeight)))));
    });
    scale_ = quantized_constants(p, kScale, p.op<QuantizedConv>().x_scale);
    bias_ = quantized_constants(p, kBias, 1);
    product_.weight = weight_->as<const std::int8_t>();
    product_.scale = scale_->as<const float>();
    product_.bias = bias_->as<const float>();
    early_ = may_launch_early(p.device());
    const DType x = p.input(kX).dtype, y = p.output(0).dtype;
    const bool whole_chunks = product_.channels % kChunk == 0;
    launch_ = x == DType::kI8
                  ? whole_chunks ? launch_of<std::int8_t, kChunk>(y) : launch_of<std::int8_t, 8>(y)
              : whole_chunks ? launch_of<std::uint8_t, kChunk>(y)
                             : launch_of<std::uint8_t, 8>(y);
  }

  void launch(CudaRun& run) override {
    if (blocks_of(product_) == 0) return;
    Product product = product_;
    product.x = run.in(kX).data;
    product.y = run.out(0).data;
    product.live = run.out(0).rows;
    if (run.has_input(kResidual)) {
      product.residual = run.in(kResidual).data;
      product.signed_residual = run.in(kResidual).dtype == DType::kI8;
    }
    launch_(product, {.blocks = static_cast<unsigned>(blocks_of(product_)),
                      .threads = kThreads,
                      .shared_bytes = shared_bytes(product_),
                      .early = early_,
                      .stream = run.stream()});
  }
  std::string detail() const override { return std::string(kQuantized1x1); }
  double flops() const override { return flops_; }

 private:
  Product product_;
  Launch launch_ = nullptr;
  bool early_ = false;
  double flops_ = 0;
  std::shared_ptr<const DeviceBuffer> weight_, scale_, bias_;
};

}  // namespace

bool is_quantized_1x1(const CudaPrepare& p) {
  const auto& op = p.op<QuantizedConv>();
  const Shape &x = p.input(kX).dims, &y = p.output(0).dims, &weight = p.input(kWeight).dims;
  const bool right_residual = !p.has_input(kResidual) || (op.residual_upsampling == 1 && y[1] % kEach == 0);
  return op.groups == 1 && weight[2] == 1 && weight[3] == 1 && y[2] == x[2] && y[3] == x[3] &&
         op.stride == std::vector<int>{1, 1} &&
         op.window(1, 1).pads_of(x[2], x[3]) == std::array{0, 0, 0, 0} && right_residual && x[1] % 8 == 0 &&
         op.to != StoredType::kBF16 && shared_bytes(described(p)) <= most_shared(p) &&
         x[0] * x[2] * x[3] < (std::int64_t{1} << 31) - kPixels &&
         blocks_of(described(p)) < (std::int64_t{1} << 31);
}

bool is_short_quantized_1x1(const CudaPrepare& p) {
  const Product product = described(p);
  const std::int64_t at_once = std::min<std::int64_t>(2048 / kThreads, kMostShared / shared_bytes(product));
  return blocks_of(product) <= at_once * p.device().multiprocessors;
}

std::unique_ptr<CudaStep> quantized_1x1_step(CudaPrepare& p) { return std::make_unique<Quantized1x1Step>(p); }

}  // namespace osprey
