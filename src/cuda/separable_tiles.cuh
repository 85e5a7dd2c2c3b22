// Tiles of separable convolutions (cuda/separable_conv.h): what lies under a tile comes to shared memory, 64
// channels at a time, and is convolved depthwise into a matrix [pixel][channel] there.
#pragma once

#include "cuda/activations.cuh"
#include "cuda/packs.cuh"
#include "cuda/separable_conv.h"
#include "cuda/tensor_core.cuh"

namespace osprey::separable {

using T = __half;

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kSize = 3, kTaps = kSize * kSize;
constexpr int kChunk = 64;  // channels at a time
constexpr int kPad = 32;    // behind a row of the matrix: then 8 lanes' 16 bytes are in different banks
constexpr int kUnit = 16;   // a warp's sums are of so many pixels and outputs at a time
constexpr int kPacks = kChunk / 8;  // of 16 bytes
constexpr int kQuads = kChunk / 4;  // of channels, which a thread convolves
constexpr int kStrips = kThreads / kQuads;

using Pack8 = uint4;  // whole words, which take fewer registers than eight halves do
using Pack4 = Pack<T, 4>;

// A tile of the result: 4x4, 4x8 or 8x8 pixels.
template <int kPixels, int kStride>
struct TileShape {
  static constexpr int kRows = kPixels == 64 ? 8 : 4, kColumns = kPixels / kRows;
  static constexpr int kUnderRows = (kRows - 1) * kStride + kSize,
                       kUnderColumns = (kColumns - 1) * kStride + kSize, kUnder = kUnderRows * kUnderColumns;
  static constexpr int kEach = kPixels / kStrips;  // neighbouring columns that a thread convolves
  static constexpr int kStageBytes = (kUnder + kTaps) * kChunk * static_cast<int>(sizeof(T));
};

struct Problem {
  int height, width, channels, out_height, out_width, outputs;
  int top, left, tiles_down, tiles_across;
  Activation between_activation, activation;
  const T *x, *taps, *weight, *residual;
  const float *between_bias, *bias;
  T *between, *y;
  float* scores;  // y of f32
  unsigned first_block;
};

struct Tile {
  int n, row, column;
};

template <int kPixels, int kStride>
__device__ Tile tile_of(const Problem& p, unsigned i) {
  using Shape = TileShape<kPixels, kStride>;
  const auto all_across = static_cast<unsigned>(p.tiles_across),
             all_down = static_cast<unsigned>(p.tiles_down);
  const unsigned line = i / all_across, n = line / all_down;
  return {static_cast<int>(n), static_cast<int>(line - n * all_down) * Shape::kRows,
          static_cast<int>(i - line * all_across) * Shape::kColumns};
}

__device__ inline const Pack8* pack_at(const T* map, int height, int width, int channels, int n, int row,
                                       int column, int channel) {
  return reinterpret_cast<const Pack8*>(
      map + ((static_cast<std::int64_t>(n) * height + row) * width + column) * channels + channel);
}

// Where a pack of the pixels under a tile lies in the map.
struct Under {
  int row, column, channel;
  bool there;

  template <int kPixels, int kStride>
  static __device__ Under at(const Problem& p, const Tile& tile, int chunk, int i) {
    using Shape = TileShape<kPixels, kStride>;
    const int pixel = i / kPacks, row = pixel / Shape::kUnderColumns;
    Under out{tile.row * kStride - p.top + row,
              tile.column * kStride - p.left + pixel - row * Shape::kUnderColumns,
              chunk * kChunk + i % kPacks * 8, false};
    out.there = static_cast<unsigned>(out.row) < static_cast<unsigned>(p.height) &&
                static_cast<unsigned>(out.column) < static_cast<unsigned>(p.width) &&
                out.channel < p.channels;
    return out;
  }
};

// The pixels under a tile, zeros where the map or its channels end.
template <int kPixels, int kStride>
__device__ void copy_pixels(const Problem& p, const Tile& tile, int chunk, T* to) {
  constexpr int kItems = TileShape<kPixels, kStride>::kUnder * kPacks;
#pragma unroll
  for (int i = static_cast<int>(threadIdx.x); i < kItems; i += kThreads) {
    const Under u = Under::at<kPixels, kStride>(p, tile, chunk, i);
    const void* from = p.x;
    if (u.there) from = pack_at(p.x, p.height, p.width, p.channels, tile.n, u.row, u.column, u.channel);
    cuda::copy_async(to + i * 8, from, u.there);
  }
}

__device__ inline void copy_taps(const Problem& p, int chunk, T* to) {
  const int i = static_cast<int>(threadIdx.x);
  if (i >= kTaps * kPacks) return;
  const int channel = chunk * kChunk + i % kPacks * 8;
  const bool there = channel < p.channels;
  cuda::copy_async(to + i * 8, there ? p.taps + i / kPacks * p.channels + channel : p.taps, there);
}

__device__ inline void load(float (&to)[4], const T* from) {
  const auto pack = *reinterpret_cast<const Pack4*>(from);
#pragma unroll
  for (int k = 0; k < 4; ++k) to[k] = widen(pack.values[k]);
}

__device__ inline uint2 narrowed(const float (&v)[4]) {
  return {cuda::packed<T>(v[0], v[1]), cuda::packed<T>(v[2], v[3])};
}

// The tile's rows of the matrix, `pitch` apart: four channels of a few neighbouring pixels by each thread.
// Sums are f32, in the order of the window, as in cuda/depthwise_conv.cu.
template <int kPixels, int kStride>
__device__ void convolve(const Problem& p, const Tile& tile, int chunk, const T* pixels, const T* taps,
                         T* matrix, int pitch) {
  using Shape = TileShape<kPixels, kStride>;
  constexpr int kEach = Shape::kEach, kIn = (kEach - 1) * kStride + kSize;
  const int quad = static_cast<int>(threadIdx.x) % kQuads, channel = chunk * kChunk + quad * 4;
  const int pixel = static_cast<int>(threadIdx.x) / kQuads * kEach, row = pixel / Shape::kColumns,
            column = pixel - row * Shape::kColumns;
  float sums[kEach][4] = {};
  if (p.between_bias && channel < p.channels) {
    const float4 start = *reinterpret_cast<const float4*>(p.between_bias + channel);
#pragma unroll
    for (int c = 0; c < kEach; ++c)
      sums[c][0] = start.x, sums[c][1] = start.y, sums[c][2] = start.z, sums[c][3] = start.w;
  }
  const T* line = pixels + (row * kStride * Shape::kUnderColumns + column * kStride) * kChunk + quad * 4;
#pragma unroll
  for (int a = 0; a < kSize; ++a, line += Shape::kUnderColumns * kChunk) {
    float v[kIn][4];
#pragma unroll
    for (int c = 0; c < kIn; ++c) load(v[c], line + c * kChunk);
#pragma unroll
    for (int b = 0; b < kSize; ++b) {
      float w[4];
      load(w, taps + (a * kSize + b) * kChunk + quad * 4);
#pragma unroll
      for (int c = 0; c < kEach; ++c)
#pragma unroll
        for (int k = 0; k < 4; ++k) sums[c][k] = __fmaf_rn(v[c * kStride + b][k], w[k], sums[c][k]);
    }
  }
#pragma unroll
  for (int c = 0; c < kEach; ++c) {
    activate_all<T>(p.between_activation, sums[c]);
    const uint2 out = narrowed(sums[c]);
    *reinterpret_cast<uint2*>(matrix + (pixel + c) * pitch + quad * 4) = out;
    const int y = tile.row + row, x = tile.column + column + c;
    if (p.between && channel < p.channels && y < p.out_height && x < p.out_width)
      *reinterpret_cast<uint2*>(
          p.between +
          ((static_cast<std::int64_t>(tile.n) * p.out_height + y) * p.out_width + x) * p.channels + channel) =
          out;
  }
}

// The number of a row of weights among 16 outputs: outputs 4t to 4t + 3 are to be columns 2t, 2t + 1 of the
// first eight sums (h = 0) and of the second.
__device__ inline int row_of(int g, int h) { return g / 2 * 4 + h * 2 + g % 2; }

// The sums of 16 pixels and 16 outputs over 32 channels; `row`: the lane's 16 bytes of the matrix.
__device__ inline void multiply(float (&sums)[2][4], const T* row, int pitch, const uint4 (&weights)[2]) {
  const uint4 above = *reinterpret_cast<const uint4*>(row);
  const uint4 below = *reinterpret_cast<const uint4*>(row + 8 * pitch);
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const uint4& w = weights[h];
    cuda::multiply_add<T>(sums[h], {above.x, below.x, above.y, below.y}, {w.x, w.y});
    cuda::multiply_add<T>(sums[h], {above.z, below.z, above.w, below.w}, {w.z, w.w});
  }
}

// The lane's 16 bytes of weights of 32 channels, for h = 0 and 1.
__device__ inline void load_weights(const Problem& p, int first_output, int first_channel, uint4 (&to)[2]) {
  const int lane = static_cast<int>(threadIdx.x) % 32, channel = first_channel + lane % 4 * 8;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int output = first_output + row_of(lane / 4, h);
    to[h] = uint4{};
    if (output < p.outputs && channel < p.channels)
      to[h] = *reinterpret_cast<const uint4*>(p.weight + output * p.channels + channel);
  }
}

inline int parts(std::int64_t all, int each) { return static_cast<int>((all + each - 1) / each); }

template <int kStride, int kPixels>
std::int64_t tiles_of(const SeparableConv& c) {
  using Shape = TileShape<kPixels, kStride>;
  return c.images * parts(c.out_height, Shape::kRows) * parts(c.out_width, Shape::kColumns);
}

template <int kStride, int kPixels>
Problem problem_of(const SeparableConv& c, unsigned first_block) {
  using Shape = TileShape<kPixels, kStride>;
  const auto size = [](std::int64_t v) { return static_cast<int>(v); };
  return {.height = size(c.height),
          .width = size(c.width),
          .channels = size(c.channels),
          .out_height = size(c.out_height),
          .out_width = size(c.out_width),
          .outputs = size(c.outputs),
          .top = c.top,
          .left = c.left,
          .tiles_down = parts(c.out_height, Shape::kRows),
          .tiles_across = parts(c.out_width, Shape::kColumns),
          .between_activation = c.between_activation,
          .activation = c.activation,
          .x = static_cast<const T*>(c.x),
          .taps = static_cast<const T*>(c.taps),
          .weight = static_cast<const T*>(c.weight),
          .residual = static_cast<const T*>(c.residual),
          .between_bias = c.between_bias,
          .bias = c.bias,
          .between = static_cast<T*>(c.between),
          .y = static_cast<T*>(c.y),
          .scores = static_cast<float*>(c.y),
          .first_block = first_block};
}

}  // namespace osprey::separable
