// Kernels over rows [R,C], in packs of columns that are read and written at once.
#pragma once

#include "cuda/packs.cuh"

namespace osprey {

template <int N, class F>
__global__ void for_each_row_pack(std::int64_t rows, int packs, const int* live, F f) {
  const std::int64_t count = (live ? min(rows, static_cast<std::int64_t>(*live)) : rows) * packs;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += step) {
    const std::int64_t row = i / packs;
    f(row, static_cast<int>(i - row * packs) * N);
  }
}

// Calls f(row, column) on the device for each pack of N columns of the live rows of y [R,C]; N divides C.
template <int N, class F>
void launch_row_packs(const CudaValue& y, cudaStream_t stream, F f) {
  const std::int64_t packs = y.dims[1] / N, count = y.dims[0] * packs;
  if (count == 0) return;
  constexpr int kThreads = 128;
  const unsigned blocks = std::min(blocks_for(count, kThreads), 65535u);
  for_each_row_pack<N><<<blocks, kThreads, 0, stream>>>(y.dims[0], static_cast<int>(packs), y.rows, f);
  cuda_check_launch("row packs");
}

}  // namespace osprey
