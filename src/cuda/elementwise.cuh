// y[i] = f(x[i]...) over whole values, of any layout since all are alike.
#pragma once

#include "cuda/kernel.h"
#include "cuda/numbers.cuh"
#include "cuda/packs.cuh"

namespace osprey {

// Elements behind the live rows are skipped.
__device__ inline std::int64_t live_elements(std::int64_t count, std::int64_t row, const int* rows) {
  return rows ? min(count, row * static_cast<std::int64_t>(*rows)) : count;
}

template <class F>
__global__ void for_each_element(std::int64_t count, std::int64_t row, const int* rows, F f) {
  const std::int64_t live = live_elements(count, row, rows);
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < live; i += step)
    f(i);
}

// Calls f(i) on the device for each element of `value` that is live.
template <class F>
void launch_elementwise(const CudaValue& value, cudaStream_t stream, F f) {
  const std::int64_t count = element_count(value.dims);
  if (count == 0) return;
  const std::int64_t row = value.dims.empty() ? 1 : count / std::max<std::int64_t>(value.dims[0], 1);
  const unsigned blocks = std::min(blocks_for(count), 65535u);
  for_each_element<<<blocks, kBlock, 0, stream>>>(count, row, value.rows, f);
  cuda_check_launch("elementwise");
}

// As for_each_element, N elements at a time, of which the last live ones may be fewer.
template <int N, class F>
__global__ void for_each_element_pack(std::int64_t count, std::int64_t row, const int* rows, F f) {
  const std::int64_t live = live_elements(count, row, rows);
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x * N;
  for (std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * N; i < live;
       i += step) {
    if (i + N <= live)
      f.template at<N>(i);
    else
      for (std::int64_t k = i; k < live; ++k) f.template at<1>(k);
  }
}

// Calls f.at<count>(first) on the device for all live elements of `value`, N or 1 at once.
template <int N, class F>
void launch_element_packs(const CudaValue& value, cudaStream_t stream, F f) {
  const std::int64_t count = element_count(value.dims);
  if (count == 0) return;
  const std::int64_t row = value.dims.empty() ? 1 : count / std::max<std::int64_t>(value.dims[0], 1);
  const unsigned blocks = std::min(blocks_for((count + N - 1) / N), 65535u);
  for_each_element_pack<N><<<blocks, kBlock, 0, stream>>>(count, row, value.rows, f);
  cuda_check_launch("elementwise");
}

template <class T, int N>
__device__ Pack<T, N> read_pack(const T* from) {
  return *reinterpret_cast<const Pack<T, N>*>(from);
}
template <class T, int N>
__device__ void write_pack(const Pack<T, N>& pack, T* to) {
  *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

}  // namespace osprey
