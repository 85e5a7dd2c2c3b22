// A block makes a tile of the result: the lines of the photo under it and all weights stand in shared memory
// in f32; a thread makes 4 neighbouring pixels of 8 outputs at a time. Sums are f32, in the order of the
// window. What the photo lost when it was rounded to f16 is undone, since all layers carry on what the first
// one gets.
#include <algorithm>
#include <cmath>
#include <optional>

#include <fmt/format.h>

#include "cuda/activations.cuh"
#include "cuda/conversions.cuh"
#include "cuda/packed_weights.h"
#include "cuda/stem_conv.h"
#include "ops/conv.h"
#include "ops/normalize_image.h"

namespace osprey {
namespace {

constexpr int kChannels = 3, kWindow = 3, kStride = 2, kMostOutputs = 128;
constexpr int kTileRows = 8, kTileColumns = 32;  // pixels of the result
constexpr int kPixels = 4, kOutputs = 8;         // that a thread makes at a time
constexpr int kLines = (kTileRows - 1) * kStride + kWindow;
constexpr int kNumbers = ((kTileColumns - 1) * kStride + kWindow) * kChannels;  // of a line
constexpr int kLineNumbers = (kNumbers + 3) / 4 * 4;
constexpr int kUnder =
    ((kPixels - 1) * kStride + kWindow) * kChannels;  // numbers of a line that a thread reads

// How 8-bit pixels were normalised, a channel each: value = (pixel - zero) / gain. From a value that was then
// rounded to f16 the pixel is known, and so is the value before; 0 is also what stands around photos.
struct Pixels {
  float gain[kChannels] = {}, inverse[kChannels] = {}, zero[kChannels] = {};

  __device__ float restored(float value, int channel) const {
    const auto of_channel = [channel](const float(&v)[kChannels]) {
      return channel == 0 ? v[0] : channel == 1 ? v[1] : v[2];
    };
    const float from = of_channel(zero), pixel = rintf(value * of_channel(gain) + from);
    return value == 0 ? value : (pixel - from) * of_channel(inverse);
  }
};

struct Maps {
  int height, width, out_height, out_width, outputs;
  int top, left;  // pads
  int tiles_across, tiles_down;
  Activation activation;
};

// Zeros where the photo ends.
template <class T, bool kRestore>
__device__ void copy_lines(const Maps& maps, const Pixels& pixels, const T* photo, int top, int left,
                           float (&lines)[kLines][kLineNumbers]) {
  const int first = left * kChannels, end = maps.width * kChannels;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < kLines * kNumbers; i += kBlock) {
    const int line = i / kNumbers, at = i - line * kNumbers;
    const int y = top + line, x = first + at;
    const bool there = y >= 0 && y < maps.height && x >= 0 && x < end;
    const float value = there ? widen(photo[static_cast<std::int64_t>(y) * end + x]) : 0.0f;
    lines[line][at] = kRestore ? pixels.restored(value, at % kChannels) : value;
  }
}

template <class T, bool kRestore>
__global__ void __launch_bounds__(kBlock) convolve(Maps maps, Pixels pixels, Storing storing, const T* x,
                                                   const float* all_weights, const float* all_bias, void* y) {
  extern __shared__ float4 weights[];  // [taps, channels, outputs]
  __shared__ alignas(16) float lines[kLines][kLineNumbers];
  const int tile = static_cast<int>(blockIdx.x), across = tile % maps.tiles_across,
            down = tile / maps.tiles_across % maps.tiles_down,
            n = tile / (maps.tiles_across * maps.tiles_down);
  const int first_row = down * kTileRows, first_column = across * kTileColumns;
  copy_lines<T, kRestore>(maps, pixels,
                          x + static_cast<std::int64_t>(n) * maps.height * maps.width * kChannels,
                          first_row * kStride - maps.top, first_column * kStride - maps.left, lines);
  for (int i = static_cast<int>(threadIdx.x); i < kWindow * kWindow * kChannels * maps.outputs / 4;
       i += kBlock)
    weights[i] = reinterpret_cast<const float4*>(all_weights)[i];
  __syncthreads();

  const int packs = maps.outputs / kOutputs, strips = kTileColumns / kPixels;
  for (int i = static_cast<int>(threadIdx.x); i < kTileRows * strips * packs; i += kBlock) {
    const int strip = i / packs, output = (i - strip * packs) * kOutputs;
    const int row = strip / strips, column = strip % strips * kPixels;
    if (first_row + row >= maps.out_height || first_column + column >= maps.out_width) continue;
    float sums[kPixels][kOutputs];
#pragma unroll
    for (int k = 0; k < kOutputs; ++k) {
      const float bias = all_bias ? __ldg(all_bias + output + k) : 0.0f;
#pragma unroll
      for (int p = 0; p < kPixels; ++p) sums[p][k] = bias;
    }
#pragma unroll 1
    for (int a = 0; a < kWindow; ++a) {
      alignas(16) float v[(kUnder + 3) / 4 * 4];
      const auto* const from =
          reinterpret_cast<const float4*>(&lines[row * kStride + a][column * kStride * kChannels]);
#pragma unroll
      for (int j = 0; j < (kUnder + 3) / 4; ++j) {
        const float4 four = from[j];
        v[4 * j] = four.x, v[4 * j + 1] = four.y, v[4 * j + 2] = four.z, v[4 * j + 3] = four.w;
      }
#pragma unroll
      for (int b = 0; b < kWindow * kChannels; ++b) {
        const int at = ((a * kWindow * kChannels + b) * maps.outputs + output) / 4;
        const float4 low = weights[at], high = weights[at + 1];
        const float w[kOutputs]{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
        for (int p = 0; p < kPixels; ++p)
#pragma unroll
          for (int k = 0; k < kOutputs; ++k)
            sums[p][k] = __fmaf_rn(v[p * kStride * kChannels + b], w[k], sums[p][k]);
      }
    }
    const std::int64_t first =
        ((static_cast<std::int64_t>(n) * maps.out_height + first_row + row) * maps.out_width + first_column +
         column) *
            maps.outputs +
        output;
#pragma unroll
    for (int p = 0; p < kPixels; ++p) {
      if (first_column + column + p >= maps.out_width) break;
      activate_all<T>(maps.activation, sums[p]);
      store_pack<T>(storing, sums[p], y, first + p * maps.outputs);
    }
  }
}

// None where x is not an image of 8-bit pixels, or was rounded too much.
std::optional<Pixels> pixels_of(const CudaPrepare& p) {
  const Node* const node = p.graph().producer(p.node().inputs[0]);
  const auto* const op = node ? node->op.as<NormalizeImage>() : nullptr;
  if (!op || op->to != FloatType::kF16 || p.graph().value(node->inputs[0]).type.dtype != DType::kU8)
    return std::nullopt;
  Pixels out;
  for (std::size_t c = 0; c < kChannels; ++c) {
    out.gain[c] = op->std[c] / op->scale;
    out.inverse[c] = op->scale / op->std[c];
    out.zero[c] = op->mean[c] / op->scale;
    // Half a unit in f16's last place of the largest value, in pixels.
    const float most = std::max(std::abs(out.zero[c]), std::abs(255 - out.zero[c])),
                rounded = most * 0x1p-11f;
    if (!(rounded < 0.4f) || op->fill[c] != std::rint(op->fill[c])) return std::nullopt;
  }
  return out;
}

bool applies(const CudaPrepare& p) {
  const Conv& op = p.op<Conv>();
  const CudaValue &x = p.input(0), &y = p.output(0);
  const std::vector<int> two{2, 2}, one{1, 1};
  return (x.dtype == DType::kF16 || x.dtype == DType::kBF16) && (y.dtype == x.dtype || quantization_of(p)) &&
         x.dims[1] == kChannels && p.input(1).dims[2] == kWindow && p.input(1).dims[3] == kWindow &&
         op.groups == 1 && op.stride == two && op.dilation == one && y.dims[1] % kOutputs == 0 &&
         y.dims[1] <= kMostOutputs && !x.rows && !p.has_input(3) && element_count(y.dims) > 0;
}

class SmallStemConvStep final : public CudaStep {
 public:
  explicit SmallStemConvStep(CudaPrepare& p) : storing_(quantization_of(p)) {
    const Conv& op = p.op<Conv>();
    const Shape &x = p.input(0).dims, &y = p.output(0).dims;
    const auto pads = op.window(kWindow, kWindow).pads_of(x[2], x[3]);
    const auto size = [](std::int64_t v) { return static_cast<int>(v); };
    maps_ = {.height = size(x[2]),
             .width = size(x[3]),
             .out_height = size(y[2]),
             .out_width = size(y[3]),
             .outputs = size(y[1]),
             .top = pads[0],
             .left = pads[1],
             .tiles_across = size((y[3] + kTileColumns - 1) / kTileColumns),
             .tiles_down = size((y[2] + kTileRows - 1) / kTileRows),
             .activation = op.activation};
    blocks_ = y[0] * maps_.tiles_across * maps_.tiles_down;
    check(blocks_ < (std::int64_t{1} << 31), "stem convolution: {} tiles", blocks_);
    flops_ = 2.0 * kWindow * kWindow * kChannels * static_cast<double>(element_count(y));
    weights_ = packed_weight(p, 1, "taps first f32", [](const Tensor& f32) {
      return permuted(f32, {2, 3, 1, 0});
    });
    if (p.has_input(2)) bias_ = packed_vector(p, 2, DType::kF32);
    pixels_ = pixels_of(p);
  }

  void launch(CudaRun& run) override {
    with_float_type(run.in(0).dtype, [&](auto zero) {
      using T = decltype(zero);
      if constexpr (sizeof(T) == 2) {
        const std::size_t bytes =
            static_cast<std::size_t>(kWindow * kWindow * kChannels * maps_.outputs) * sizeof(float);
        const auto kernel = pixels_ ? convolve<T, true> : convolve<T, false>;
        kernel<<<static_cast<unsigned>(blocks_), kBlock, bytes, run.stream()>>>(
            maps_, pixels_.value_or(Pixels{}), storing_, run.in(0).as<T>(), weights_->as<float>(),
            bias_ ? bias_->as<float>() : nullptr, run.out(0).data);
      }
    });
    cuda_check_launch("stem convolution");
  }
  std::string detail() const override { return "own stem"; }
  double flops() const override { return flops_; }

 private:
  const Storing storing_;
  Maps maps_{};
  std::optional<Pixels> pixels_;
  std::int64_t blocks_ = 0;
  double flops_ = 0;
  std::shared_ptr<const DeviceBuffer> weights_, bias_;
};

}  // namespace

std::unique_ptr<CudaStep> small_stem_conv_step(CudaPrepare& prepare) {
  return applies(prepare) ? std::make_unique<SmallStemConvStep>(prepare) : nullptr;
}

bool is_small_stem_conv(const CudaPrepare& prepare) { return applies(prepare); }

}  // namespace osprey
