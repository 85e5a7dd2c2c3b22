// As a matrix product on the tensor cores. A row of it is the window of one pixel: from each of 7 lines of
// the photo 8 neighbouring pixels, 24 numbers, of which the first pixel has weight 0 and is there so that
// windows begin at even places. Neighbouring windows are 6 numbers apart and overlap, so nothing is gathered:
// fragments are read straight from the lines of a tile in shared memory. Weights stay in registers: a block
// goes from tile to tile, and copies the lines of the next while it multiplies.
//
// (A window's first pixel is multiplied by 0: were it infinite, it would spoil the result. It is a normalised
// photo.)
#include <algorithm>
#include <array>
#include <string>

#include "cuda/conversions.cuh"
#include "cuda/stem_conv.h"
#include "cuda/tensor_core.cuh"
#include "ops/conv.h"

namespace osprey {
namespace {

using namespace cuda;

constexpr int kChannels = 3, kWindow = 7, kPad = 3;
constexpr int kNumbers = 8 * kChannels;          // of a line of a window, with the pixel of weight 0
constexpr int kChunks = kWindow * kNumbers / 8;  // eights of a window; a product takes two of them
constexpr int kSteps = (kChunks + 1) / 2;        // the last eight beyond them has weight 0, too
constexpr int kTileHeight = 4, kTileWidth = 32;  // pixels of the result; small, so that blocks end together
constexpr int kLead = 8;                         // pixels of a line before the tile's: whole 16 bytes
constexpr int kLines = 2 * kTileHeight + kWindow - 2;
constexpr int kLineBytes = (2 * kTileWidth + kLead + kPad - 1) * kChannels * 2 / 16 * 16 + 16;
constexpr int kOutputs = 64;                            // channels that a block makes
constexpr int kWarps = 4, kColumns = 4;                 // a warp makes 32 of them, as 4 products of 8 columns
constexpr int kThreads = kWarps * 32, kBlocksEach = 3;  // blocks of a multiprocessor
static_assert(kLines == 13 && kLineBytes == 448);

struct Maps {
  int images, height, width;  // of the photo
  int out_height, out_width, outputs;
  int tiles_across, tiles_down;

  __host__ __device__ int tiles() const { return images * tiles_across * tiles_down; }
};

struct Tile {
  int image, top, left;  // in the result

  __device__ Tile(const Maps& s, int index)
      : image(index / (s.tiles_across * s.tiles_down)),
        top(index / s.tiles_across % s.tiles_down * kTileHeight),
        left(index % s.tiles_across * kTileWidth) {}
};

// The lines under a tile, zeros outside the photo. Its rows begin at multiples of 16 bytes, as the lines do.
__device__ void fetch(const Maps& maps, const std::byte* photos, int index, std::byte* lines) {
  constexpr int kPieces = kLineBytes / 16;
  const Tile tile(maps, index);
  const int row_bytes = maps.width * kChannels * 2, first = (2 * tile.left - kLead) * kChannels * 2;
  const std::byte* const photo = photos + static_cast<std::int64_t>(tile.image) * maps.height * row_bytes;
  for (int i = static_cast<int>(threadIdx.x); i < kLines * kPieces; i += kThreads) {
    const int line = i / kPieces, y = 2 * tile.top - kPad + line, at = first + i % kPieces * 16;
    const bool there = y >= 0 && y < maps.height && at >= 0 && at < row_bytes;
    copy_async(lines + i * 16, there ? photo + static_cast<std::int64_t>(y) * row_bytes + at : photos, there);
  }
}

// Where the numbers of a chunk begin, from those of chunk 0.
constexpr int chunk_offset(int chunk) {
  const int c = chunk < kChunks ? chunk : kChunks - 1;
  return c / 3 * kLineBytes + c % 3 * 16;
}

__device__ unsigned word_at(const std::byte* p) { return *reinterpret_cast<const unsigned*>(p); }

// 16 neighbouring pixels of two rows of the result, by the weights of 32 outputs.
template <class T>
__device__ void multiply(const std::byte* window, const uint2 (&weights)[kSteps][kColumns],
                         float (&sums)[2][kColumns][4]) {
  constexpr int kEighthPixel = 8 * 2 * kChannels * 2, kRow = 2 * kLineBytes;
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const int low = chunk_offset(2 * step), high = chunk_offset(2 * step + 1);
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const std::byte* const p = window + row * kRow;
      const unsigned a[4] = {word_at(p + low), word_at(p + low + kEighthPixel), word_at(p + high),
                             word_at(p + high + kEighthPixel)};
#pragma unroll
      for (int j = 0; j < kColumns; ++j) multiply_add<T>(sums[row][j], a, weights[step][j]);
    }
  }
}

// A lane has 8 neighbouring outputs (pack_weights) of pixels g and g + 8.
template <class T, Activation kActivation>
__device__ void store(const float (&sums)[kColumns][4], const float (&bias)[2 * kColumns], int pixel,
                      const Storing& storing, void* y, std::int64_t at) {
  float v[2 * kColumns];
#pragma unroll
  for (int k = 0; k < 2 * kColumns; ++k) {
    v[k] = sums[k / 2][pixel * 2 + k % 2] + bias[k];
    if (kActivation != Activation::kNone) v[k] = fmaxf(v[k], 0.0f);
    if (kActivation == Activation::kRelu6) v[k] = fminf(v[k], 6.0f);
  }
  store_pack<T>(storing, v, y, at);
}

template <class T, Activation kActivation>
__global__ void __launch_bounds__(kThreads, kBlocksEach)
    convolve(Maps maps, Storing storing, const std::byte* x, const uint2* packed_weights,
             const float* all_bias, void* y) {
  __shared__ alignas(16) std::byte lines[2][kLines * kLineBytes];
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int half = warp % 2, side = warp / 2;  // of the outputs, and of the tile
  const int g = lane / 4, t = lane % 4;
  const int output = static_cast<int>(blockIdx.y) * kOutputs + half * 32 + 8 * t;

  uint2 weights[kSteps][kColumns];
  const uint2* const mine = packed_weights + (blockIdx.y * 2 + half) * kSteps * kColumns * 32 + lane;
#pragma unroll
  for (int step = 0; step < kSteps; ++step)
#pragma unroll
    for (int j = 0; j < kColumns; ++j) weights[step][j] = mine[(step * kColumns + j) * 32];
  float bias[2 * kColumns];
#pragma unroll
  for (int k = 0; k < 2 * kColumns; ++k) bias[k] = all_bias ? all_bias[output + k] : 0.0f;

  const int tiles = maps.tiles(), step = static_cast<int>(gridDim.x);
  // A lane's first number in the lines, of the tile's first row.
  const int first = ((side * 16 + g) * 2 + kLead - kPad - 1) * kChannels * 2 + 4 * t;
  int tile_index = static_cast<int>(blockIdx.x), buffer = 0;
  fetch(maps, x, tile_index, lines[0]);
  commit_copies();
  for (; tile_index < tiles; tile_index += step, buffer ^= 1) {
    if (tile_index + step < tiles) fetch(maps, x, tile_index + step, lines[buffer ^ 1]);
    commit_copies();
    await_copies<1>();
    __syncthreads();
    const Tile tile(maps, tile_index);
    const int column = tile.left + side * 16 + g;
#pragma unroll 1
    for (int row = 0; row < kTileHeight && tile.top + row < maps.out_height; row += 2) {
      float sums[2][kColumns][4] = {};
      multiply<T>(lines[buffer] + first + row * 2 * kLineBytes, weights, sums);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int out_row = tile.top + row + r;
        if (out_row >= maps.out_height) continue;
        const std::int64_t at =
            ((static_cast<std::int64_t>(tile.image) * maps.out_height + out_row) * maps.out_width + column) *
                maps.outputs +
            output;
        if (column < maps.out_width) store<T, kActivation>(sums[r], bias, 0, storing, y, at);
        if (column + 8 < maps.out_width)
          store<T, kActivation>(sums[r], bias, 1, storing, y, at + 8 * maps.outputs);
      }
    }
    __syncthreads();
  }
}

// The weight of number k of a window (kNumbers a line), 0 for those of the first pixel and behind the last
// line.
float window_weight(const Tensor& weight, std::int64_t output, int k) {
  const int line = k / kNumbers, at = k % kNumbers - kChannels;
  if (line >= kWindow || at < 0) return 0;
  const std::int64_t x = at / kChannels, c = at % kChannels;
  return weight
      .values<float>()[static_cast<std::size_t>(((output * kChannels + c) * kWindow + line) * kWindow + x)];
}

std::uint16_t bits_of(float v, DType type) {
  return type == DType::kF16 ? to_half(v).bits : to_bfloat16(v).bits;
}

// In the order in which lanes read them: [32 outputs][step][column group][lane][4 numbers]. Which output a
// column is, is ours to choose: column 2t + i of group j is output 8t + 2j + i, so that a lane gets
// neighbours.
std::vector<std::uint16_t> pack_weights(const Tensor& weight, DType type) {
  std::vector<std::uint16_t> out;
  for (std::int64_t half = 0; half < weight.dim(0) / 32; ++half)
    for (int step = 0; step < kSteps; ++step)
      for (int j = 0; j < kColumns; ++j)
        for (int lane = 0; lane < 32; ++lane) {
          const int column = lane / 4, t = lane % 4;
          const std::int64_t output = half * 32 + column / 2 * 8 + 2 * j + column % 2;
          for (const int k : {2 * t, 2 * t + 1, 2 * t + 8, 2 * t + 9})
            out.push_back(bits_of(window_weight(weight, output, step * 16 + k), type));
        }
  return out;
}

bool applies(const CudaPrepare& p) {
  const Conv& op = p.op<Conv>();
  const CudaValue &x = p.input(0), &y = p.output(0);
  const std::vector<int> pads{kPad, kPad, kPad, kPad}, two{2, 2}, one{1, 1};
  return (x.dtype == DType::kF16 || x.dtype == DType::kBF16) && (y.dtype == x.dtype || quantization_of(p)) &&
         x.dims[1] == kChannels && p.input(1).dims[2] == kWindow && p.input(1).dims[3] == kWindow &&
         op.groups == 1 && op.stride == two && op.dilation == one && op.padding == Padding::kExplicit &&
         op.pads == pads && x.dims[3] % 8 == 0 && y.dims[1] % kOutputs == 0 && !x.rows && !p.has_input(3) &&
         (op.activation == Activation::kNone || op.activation == Activation::kRelu ||
          op.activation == Activation::kRelu6);
}

class StemConvStep final : public CudaStep {
 public:
  explicit StemConvStep(CudaPrepare& p) : activation_(p.op<Conv>().activation), storing_(quantization_of(p)) {
    const Shape &x = p.input(0).dims, &y = p.output(0).dims;
    const auto size = [](std::int64_t v) { return static_cast<int>(v); };
    maps_ = {size(x[0]),
             size(x[2]),
             size(x[3]),
             size(y[2]),
             size(y[3]),
             size(y[1]),
             size((y[3] + kTileWidth - 1) / kTileWidth),
             size((y[2] + kTileHeight - 1) / kTileHeight)};
    blocks_ = std::min(maps_.tiles(),
                       std::max(1, p.device().multiprocessors * kBlocksEach * kOutputs / maps_.outputs));
    flops_ = 2.0 * kWindow * kWindow * kChannels * static_cast<double>(element_count(y));
    const DType type = p.input(0).dtype;
    weights_ = p.shared("stem:" + std::to_string(p.node().inputs[1]), [&] {
      const std::vector<std::uint16_t> packed = pack_weights(p.weight(1).to_f32(), type);
      return DeviceBuffer::holding(std::as_bytes(std::span(packed)));
    });
    if (p.has_input(2))
      bias_ = p.shared("stem bias:" + std::to_string(p.node().inputs[2]),
                       [&] { return DeviceBuffer::holding(p.weight(2).to_f32().bytes()); });
  }

  void launch(CudaRun& run) override {
    with_float_type(run.in(0).dtype, [&](auto zero) {
      using T = decltype(zero);
      if constexpr (sizeof(T) == 2) {
        switch (activation_) {
          case Activation::kRelu:
            return launch_as<T, Activation::kRelu>(run);
          case Activation::kRelu6:
            return launch_as<T, Activation::kRelu6>(run);
          default:
            return launch_as<T, Activation::kNone>(run);
        }
      }
    });
    cuda_check_launch("stem convolution");
  }
  std::string detail() const override { return "own stem"; }
  double flops() const override { return flops_; }

 private:
  template <class T, Activation kActivation>
  void launch_as(CudaRun& run) const {
    const dim3 grid(static_cast<unsigned>(blocks_), static_cast<unsigned>(maps_.outputs / kOutputs));
    convolve<T, kActivation>
        <<<grid, kThreads, 0, run.stream()>>>(maps_, storing_, run.in(0).data, weights_->as<uint2>(),
                                              bias_ ? bias_->as<float>() : nullptr, run.out(0).data);
  }

  Activation activation_;
  Storing storing_;
  Maps maps_;
  int blocks_ = 0;
  double flops_ = 0;
  std::shared_ptr<const DeviceBuffer> weights_, bias_;
};

}  // namespace

std::unique_ptr<CudaStep> stem_conv_step(CudaPrepare& prepare) {
  return applies(prepare) ? std::make_unique<StemConvStep>(prepare) : nullptr;
}

bool is_stem_conv(const CudaPrepare& prepare) { return applies(prepare); }

}  // namespace osprey
