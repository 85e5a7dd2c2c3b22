// Run lengths of masks that lie one behind the other, each mask's last run behind its changes.
#pragma once

#include <climits>

#include "cuda/block.cuh"

namespace osprey::cuda {

// By all threads of one block: ends[e], how many runs mask e has, becomes where they end among those of all
// masks, and the last of them is written there if it is within `capacity`. *rows: all runs, at most INT_MAX.
__device__ inline void close_masks(int count, int* ends, const unsigned* last_runs, unsigned* runs, int* rows,
                                   int capacity) {
  __syncthreads();  // ends and last_runs are written
  std::int64_t total = 0;
  for (int begin = 0; begin < count; begin += static_cast<int>(blockDim.x)) {
    const int e = begin + static_cast<int>(threadIdx.x);
    const int own = e < count ? ends[e] : 0;
    int sum;
    const std::int64_t end = total + block_exclusive_sum(own, &sum) + own;
    total += sum;
    if (e >= count) continue;
    ends[e] = static_cast<int>(end);
    if (end <= capacity) runs[end - 1] = last_runs[e];
  }
  if (threadIdx.x == 0) *rows = static_cast<int>(min(total, std::int64_t{INT_MAX}));
}

}  // namespace osprey::cuda
