// Kernels over channels-last maps, in packs of channels that are read and written at once.
#pragma once

#include <algorithm>

#include "cuda/kernel.h"
#include "cuda/numbers.cuh"

namespace osprey {

template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T values[N];
};

// Where a pack of a result lies.
struct PackPlace {
  int n, row, column, channel;  // `channel` is its first
  std::int64_t at;              // its first element
};

// A value of [n, height, width, channels], which N divides.
struct PackedMaps {
  int height, width, packs;
};

// A line of pixels for each blockIdx.x.
template <int N, class F>
__global__ void for_each_pack_kernel(PackedMaps maps, const int* live, F f) {
  const int line = static_cast<int>(blockIdx.x), n = line / maps.height;
  if (live && n >= *live) return;
  const int count = maps.width * maps.packs, step = static_cast<int>(gridDim.y * blockDim.x);
  const std::int64_t first = static_cast<std::int64_t>(line) * count;
  for (int i = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x); i < count; i += step) {
    const int column = i / maps.packs;
    f(PackPlace{n, line - n * maps.height, column, (i - column * maps.packs) * N, (first + i) * N});
  }
}

// Calls f(PackPlace) on the device for each pack of N channels of the live rows of y.
template <int N, class F>
void launch_packs(const CudaValue& y, cudaStream_t stream, F f) {
  const std::int64_t lines = y.dims[0] * y.dims[2], packs = y.dims[1] / N, line = y.dims[3] * packs;
  if (lines * line == 0) return;
  check(lines < (std::int64_t{1} << 31) && line < (std::int64_t{1} << 31), "{} lines of {} packs", lines,
        line);
  const int threads = static_cast<int>(std::min<std::int64_t>((line + 31) / 32 * 32, 128));
  const dim3 grid(static_cast<unsigned>(lines), std::min(blocks_for(line, threads), 65535u));
  for_each_pack_kernel<N><<<grid, threads, 0, stream>>>(
      PackedMaps{static_cast<int>(y.dims[2]), static_cast<int>(y.dims[3]), static_cast<int>(packs)}, y.rows,
      f);
}

// 16 bytes of channels at once where `channels` allow it, one otherwise: body.template operator()<N>().
template <class T, class Body>
void with_pack(std::int64_t channels, Body&& body) {
  constexpr int kMost = 16 / static_cast<int>(sizeof(T));
  channels % kMost == 0 ? body.template operator()<kMost>() : body.template operator()<1>();
}

}  // namespace osprey
