// What the threads of a block do together: sums, and finding and sorting the best of many candidates.
//
// Blocks have a multiple of 32 threads, all of which call these functions.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

namespace osprey::cuda {

inline constexpr unsigned kAll = 0xffffffffu;  // lanes of a warp

__device__ inline int lane_of_thread() { return static_cast<int>(threadIdx.x % 32); }
__device__ inline int warp_of_thread() { return static_cast<int>(threadIdx.x / 32); }

__device__ inline int warp_inclusive_sum(int v) {
  for (int step = 1; step < 32; step *= 2) {
    const int before = __shfl_up_sync(kAll, v, step);
    if (lane_of_thread() >= step) v += before;
  }
  return v;
}

__device__ inline int warp_sum(int v) {
  for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(kAll, v, step);
  return v;
}

// The sum over the threads before this one; *total: over all.
__device__ inline int block_exclusive_sum(int v, int* total) {
  __shared__ int warps[33];
  const int lane = lane_of_thread(), inclusive = warp_inclusive_sum(v);
  __syncthreads();  // of an earlier call
  if (lane == 31) warps[warp_of_thread()] = inclusive;
  __syncthreads();
  if (warp_of_thread() == 0) {
    const int count = static_cast<int>(blockDim.x / 32), mine = lane < count ? warps[lane] : 0;
    const int sum = warp_inclusive_sum(mine);
    warps[lane] = sum - mine;
    if (lane == 31) warps[32] = sum;
  }
  __syncthreads();
  *total = warps[32];
  return warps[warp_of_thread()] + inclusive - v;
}

__device__ inline int block_sum(int v) {
  int total;
  block_exclusive_sum(v, &total);
  return total;
}

// Blocks that write one after the other, each a number of rows it finds out itself: the sum of the rows of
// the blocks before this one. `published` holds a word a block, all 0 at first. Blocks are started in the
// order of their numbers, so that those waited for are running or done.
__device__ inline int rows_before(int* published, int block, int rows) {
  __shared__ int before;
  if (threadIdx.x == 0) atomicExch(published + block, rows + 1);
  if (warp_of_thread() == 0) {
    int sum = 0;
    for (int b = lane_of_thread(); b < block; b += 32) {
      int seen;
      while ((seen = atomicAdd(published + b, 0)) == 0) {
      }
      sum += seen - 1;
    }
    sum = warp_sum(sum);
    if (lane_of_thread() == 0) before = sum;
  }
  __syncthreads();
  return before;
}

// Ranking by descending score, equal scores by ascending index, as one integer comparison (cpu/ranking.h).
// Greater ranks come first; no two candidates have the same.
using Rank = std::uint64_t;

__device__ inline std::uint32_t bits_of_score(float score) {
  const std::uint32_t bits = __float_as_uint(score + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ inline float score_of_bits(std::uint32_t bits) {
  return __uint_as_float(bits & 0x80000000u ? bits & 0x7fffffffu : ~bits);
}
__device__ inline Rank rank_of(float score, std::uint32_t index) {
  return Rank{bits_of_score(score)} << 32 | (0xffffffffu - index);
}
__device__ inline float score_of(Rank rank) { return score_of_bits(static_cast<std::uint32_t>(rank >> 32)); }
__device__ inline std::uint32_t index_of(Rank rank) { return 0xffffffffu - static_cast<std::uint32_t>(rank); }

inline constexpr int kDigitBits = 11, kDigits = 1 << kDigitBits;

// Where, counting from the highest digit down, `wanted` candidates are reached.
struct DigitFound {
  int digit, above, count;  // candidates of higher digits, and of this one; digit 0 when there are too few
};

// histogram: kBins counts in shared or global memory, the same for all threads.
template <int kBins>
__device__ DigitFound find_digit(const int* histogram, int wanted) {
  __shared__ DigitFound found;
  const int threads = static_cast<int>(blockDim.x), each = (kBins + threads - 1) / threads;
  const int high = kBins - 1 - static_cast<int>(threadIdx.x) * each;  // this thread's digits, downwards
  int mine = 0, total;
  for (int i = 0; i < each; ++i)
    if (high - i >= 0) mine += histogram[high - i];
  int above = block_exclusive_sum(mine, &total);
  if (above < wanted && (above + mine >= wanted || (total < wanted && threadIdx.x == blockDim.x - 1))) {
    int digit = high;
    if (total < wanted) {
      above = total - histogram[0];
      digit = 0;
    } else {
      while (above + histogram[digit] < wanted) above += histogram[digit--];
    }
    found = {digit, above, histogram[digit]};
  }
  __syncthreads();
  const DigitFound out = found;
  __syncthreads();
  return out;
}

// A rank that at least `wanted` candidates reach, or all when there are fewer, and at most `capacity` >=
// `wanted` do. candidates(f) calls f(rank) for each of them, from all threads together; it is called two to
// seven times. `histogram`: kDigits counts in shared memory.
//
// Digit by digit from the top, as on the CPU (cpu/select_anchors.cpp).
template <class Candidates>
__device__ Rank find_bound(const Candidates& candidates, int wanted, int capacity, int* histogram) {
  Rank bound = 0;
  int above = 0;  // candidates above the digit under search
  for (int known = 64;;) {
    const int shift = known > kDigitBits ? known - kDigitBits : 0;
    const Rank mask = (Rank{1} << (known - shift)) - 1, prefix = bound >> shift & ~mask;
    for (int i = static_cast<int>(threadIdx.x); i < kDigits; i += static_cast<int>(blockDim.x))
      histogram[i] = 0;
    __syncthreads();
    candidates([&](Rank rank) {
      if ((rank >> shift & ~mask) == prefix) atomicAdd(histogram + (rank >> shift & mask), 1);
    });
    __syncthreads();
    const DigitFound found = find_digit<kDigits>(histogram, wanted - above);
    bound |= static_cast<Rank>(found.digit) << shift;
    above += found.above;
    if (above + found.count <= capacity || shift == 0) return bound;
    known = shift;
  }
}

// Collects the candidates of at least that rank in `ranks` and returns how many.
template <class Candidates>
__device__ int collect(const Candidates& candidates, Rank bound, Rank* ranks, int capacity) {
  __shared__ int next;
  if (threadIdx.x == 0) next = 0;
  __syncthreads();
  candidates([&](Rank rank) {
    if (rank < bound) return;
    const int at = atomicAdd(&next, 1);
    if (at < capacity) ranks[at] = rank;
  });
  __syncthreads();
  return min(next, capacity);
}

// Bitonic, in shared or global memory; `size` is a power of two, at least 32. Strides below 32 stay within a
// warp and in registers.
__device__ inline void sort_descending(Rank* ranks, int size) {
  const int threads = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x);
  const auto exchange_in_warp = [&](Rank v, int at, int run, int stride) {
    const Rank other = __shfl_xor_sync(kAll, v, stride);
    const bool first = ((at & run) == 0) == ((at & stride) == 0);  // keeps the greater one
    return first == (v > other) ? v : other;
  };
  for (int at = thread; at < size; at += threads) {
    Rank v = ranks[at];
    for (int run = 2; run <= 32; run *= 2)
      for (int stride = run / 2; stride > 0; stride /= 2) v = exchange_in_warp(v, at, run, stride);
    ranks[at] = v;
  }
  for (int run = 64; run <= size; run *= 2) {
    for (int stride = run / 2; stride >= 32; stride /= 2) {
      __syncthreads();
      for (int pair = thread; pair < size / 2; pair += threads) {
        const int a = 2 * pair - (pair & (stride - 1)), b = a + stride;
        const Rank first = ranks[a], second = ranks[b];
        if ((first < second) == ((a & run) == 0)) ranks[a] = second, ranks[b] = first;
      }
    }
    __syncthreads();
    for (int at = thread; at < size; at += threads) {
      Rank v = ranks[at];
      for (int stride = 16; stride > 0; stride /= 2) v = exchange_in_warp(v, at, run, stride);
      ranks[at] = v;
    }
  }
  __syncthreads();
}

// The best `wanted` candidates, sorted, into `ranks`, which has room for sort_size(wanted); returns how many
// there are.
inline int sort_size(int wanted) {
  int size = 32;
  while (size < wanted) size *= 2;
  return size;
}
template <class Candidates>
__device__ int best_of(const Candidates& candidates, int wanted, Rank* ranks, int capacity, int* histogram) {
  if (wanted <= 0) return 0;
  const Rank bound = find_bound(candidates, wanted, capacity, histogram);
  const int count = collect(candidates, bound, ranks, capacity);
  for (int i = count + static_cast<int>(threadIdx.x); i < capacity; i += static_cast<int>(blockDim.x))
    ranks[i] = 0;
  __syncthreads();
  sort_descending(ranks, capacity);
  return min(count, wanted);
}

}  // namespace osprey::cuda
