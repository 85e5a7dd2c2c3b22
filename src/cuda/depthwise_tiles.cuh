// How kernels of depthwise convolutions divide their work. A block makes a tile of the result, of some
// channels: it copies what lies under the tile into shared memory, all copies at once, since a single
// thread's loads would wait for each other. A thread then makes a few neighbouring columns of four channels
// at a time; neighbouring threads have neighbouring channels.
#pragma once

#include <algorithm>

#include "cuda/kernel.h"
#include "cuda/packs.cuh"
#include "cuda/tensor_core.cuh"

namespace osprey::depthwise {

constexpr int kThreads = 128, kLanes = 4, kColumns = 4;  // channels and columns that a thread makes at a time
constexpr int kMostShared = 48 << 10;

template <class T>
using Lanes = Pack<T, kLanes>;

// Packs that are copied as 16 bytes.
template <class T>
constexpr int kTogether = 16 / static_cast<int>(sizeof(Lanes<T>));

struct Maps {
  int height, width, out_height, out_width, channels;
  int top, left;                         // pads
  int tile_rows, tile_strips;            // of the result: rows, and strips of kColumns pixels
  int packs;                             // of kLanes channels, of a tile at most
  int tiles_down, tiles_across, chunks;  // chunks: of channels
};

// The pixels of x under a tile.
struct Under {
  int rows, columns;
  __host__ __device__ Under(const Maps& m, int size, int stride)
      : rows((m.tile_rows - 1) * stride + size), columns((m.tile_strips * kColumns - 1) * stride + size) {}
};

// A block's part of a result.
struct Tile {
  int n, row, column, pack, packs;  // the first ones; packs: how many

  __device__ Tile(const Maps& m, unsigned i) {
    const auto take = [&](int count) {
      const unsigned rest = i / static_cast<unsigned>(count);
      const int at = static_cast<int>(i - rest * static_cast<unsigned>(count));
      i = rest;
      return at;
    };
    pack = take(m.chunks) * m.packs;
    column = take(m.tiles_across) * m.tile_strips * kColumns;
    row = take(m.tiles_down) * m.tile_rows;
    n = static_cast<int>(i);
    packs = min(m.packs, m.channels / kLanes - pack);
  }
};

// The pixels under a tile, zeros where the map ends, each kPacks packs at a time: 16 bytes are copied while
// the thread goes on.
template <class T, int kPacks, int kSize, int kStride>
__device__ void copy_pixels(const Maps& maps, const Tile& tile, const T* image, Lanes<T>* to) {
  constexpr int kBytes = kPacks * static_cast<int>(sizeof(Lanes<T>));
  const Under under(maps, kSize, kStride);
  const int pieces = tile.packs / kPacks, top = tile.row * kStride - maps.top,
            left = tile.column * kStride - maps.left;
  const int columns_each = kThreads / pieces, rows_each = columns_each / under.columns;
  const int pieces_step = kThreads % pieces, columns_step = columns_each % under.columns;
  const int pixel = static_cast<int>(threadIdx.x) / pieces;
  int piece = static_cast<int>(threadIdx.x) - pixel * pieces;
  int row = pixel / under.columns, column = pixel - row * under.columns;
  while (row < under.rows) {
    const int y = top + row, x = left + column;
    const bool there = static_cast<unsigned>(y) < static_cast<unsigned>(maps.height) &&
                       static_cast<unsigned>(x) < static_cast<unsigned>(maps.width);
    const T* const from = image + (static_cast<std::int64_t>(y) * maps.width + x) * maps.channels +
                          (tile.pack + piece * kPacks) * kLanes;
    Lanes<T>* const at = to + (row * under.columns + column) * maps.packs + piece * kPacks;
    if constexpr (kBytes == 16)
      cuda::copy_async(at, there ? from : image, there);
    else
      *at = there ? *reinterpret_cast<const Lanes<T>*>(from) : Lanes<T>{};
    piece += pieces_step;
    column += columns_step;
    row += rows_each;
    if (piece >= pieces) piece -= pieces, ++column;
    if (column >= under.columns) column -= under.columns, ++row;
  }
}

// The same, 16 bytes at a time where the channels allow it.
template <class T, int kSize, int kStride>
__device__ void copy_pixels(const Maps& maps, const Tile& tile, const T* image, Lanes<T>* to) {
  if (kTogether < T >> 1 && maps.channels % (kTogether<T> * kLanes) == 0)
    copy_pixels<T, kTogether<T>, kSize, kStride>(maps, tile, image, to);
  else
    copy_pixels<T, 1, kSize, kStride>(maps, tile, image, to);
}

// Which packs of channels and which strips of a tile a thread makes: from `first` on, every `step`th.
struct Share {
  int pack, first, step;
  __device__ explicit Share(const Maps& maps)
      : pack(static_cast<int>(threadIdx.x) % maps.packs),
        first(static_cast<int>(threadIdx.x) / maps.packs),
        step(kThreads / maps.packs) {}
  __device__ bool any(const Tile& tile) const { return first < step && pack < tile.packs; }
};

// What a division into tiles is made for.
struct Division {
  int kernel, stride;
  int chunk_packs;       // of channels, in a tile at most
  int packs_together;    // of which a tile has a multiple where the map has
  int weight_bytes;      // of a pack of channels
  int pixel_pack_bytes;  // of a pack of channels of a pixel
};

// Bytes of shared memory of a tile: its pixels, then its weights from a multiple of 16 bytes on.
__host__ __device__ inline int pixel_bytes(const Maps& m, int size, int stride, int pack_bytes) {
  const Under under(m, size, stride);
  return (under.rows * under.columns * m.packs * pack_bytes + 15) / 16 * 16;
}
inline int shared_bytes(const Maps& m, const Division& d) {
  return pixel_bytes(m, d.kernel, d.stride, d.pixel_pack_bytes) + m.packs * d.weight_bytes;
}

// Fills in the tiles of maps whose extents are known, and returns how many there are. The larger a tile, the
// fewer pixels are read for two; but there should be enough for all of the device.
inline unsigned divide(Maps& maps, std::int64_t images, const Division& d, int multiprocessors) {
  constexpr int kMostRows = 8;
  const auto parts = [](int all, int each) { return (all + each - 1) / each; };
  const int packs = maps.channels / kLanes;
  maps.chunks = parts(packs, d.chunk_packs);
  maps.packs = parts(packs, maps.chunks);
  if (packs % d.packs_together == 0) maps.packs = parts(maps.packs, d.packs_together) * d.packs_together;
  maps.chunks = parts(packs, maps.packs);
  maps.tile_strips = std::clamp(parts(maps.out_width, kColumns), 1, d.stride == 1 ? 4 : 2);
  maps.tiles_across = parts(maps.out_width, maps.tile_strips * kColumns);
  maps.tile_rows = std::clamp(maps.out_height, 1, kMostRows);
  const auto blocks = [&] {
    maps.tiles_down = parts(maps.out_height, maps.tile_rows);
    return images * maps.tiles_down * maps.tiles_across * maps.chunks;
  };
  while (shared_bytes(maps, d) > kMostShared) --maps.tile_rows;
  while (maps.tile_rows > 1 && blocks() < 2 * multiprocessors) maps.tile_rows = parts(maps.tile_rows, 2);
  check(blocks() < (std::int64_t{1} << 31), "depthwise convolution: {} tiles", blocks());
  return static_cast<unsigned>(blocks());
}

// 3x3 or 5x5 with one stride of 1 or 2, a channel of the result for each channel.
template <class Op>
bool is_depthwise(const Op& op, const Shape& weight, std::int64_t channels) {
  const bool window = weight[2] == weight[3] && (weight[2] == 3 || weight[2] == 5) &&
                      op.stride[0] == op.stride[1] && op.stride[0] <= 2 &&
                      op.dilation == std::vector<int>{1, 1};
  return window && op.groups == channels && weight[0] == channels && channels % kLanes == 0;
}

// The extents of a convolution's maps, without tiles.
template <class Op>
Maps maps_of(const Op& op, const Shape& x, const Shape& y, const Shape& weight) {
  const auto size = [](std::int64_t v) { return static_cast<int>(v); };
  const auto pads = op.window(weight[2], weight[3]).pads_of(x[2], x[3]);
  return {.height = size(x[2]),
          .width = size(x[3]),
          .out_height = size(y[2]),
          .out_width = size(y[3]),
          .channels = size(y[1]),
          .top = pads[0],
          .left = pads[1],
          .tile_rows = 1,
          .tile_strips = 1,
          .packs = 1,
          .tiles_down = 1,
          .tiles_across = 1,
          .chunks = 1};
}

// `convolve` is called with integral constants of the window and the stride.
template <class Body>
void with_window(int kernel, int stride, Body&& convolve) {
  if (kernel == 3)
    stride == 1 ? convolve.template operator()<3, 1>() : convolve.template operator()<3, 2>();
  else
    stride == 1 ? convolve.template operator()<5, 1>() : convolve.template operator()<5, 2>();
}

}  // namespace osprey::depthwise
