// A pass over many scores in search of the few that are high enough.
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda/score_flags.h"

namespace osprey::cuda {

// Calls f(raw, index) for the scores of [begin, end) that are at least `floor`, with all threads of the
// block, four at a time from aligned memory.
template <class F>
__device__ void each_score(const float* scores, unsigned begin, unsigned end, float floor, F&& f) {
  constexpr unsigned kAtOnce = 4;
  const unsigned thread = threadIdx.x, threads = blockDim.x;
  const auto misaligned = static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(scores + begin) / 4 % 4);
  const unsigned head = min(end, begin + (4 - misaligned) % 4), quads = (end - head) / 4;
  const auto* vectors = reinterpret_cast<const float4*>(scores + head);
  const auto one = [&](unsigned i) {
    if (const float raw = scores[i]; raw >= floor) f(raw, i);
  };
  if (begin + thread < head) one(begin + thread);
  if (head + 4 * quads + thread < end) one(head + 4 * quads + thread);
  for (unsigned first = thread; first < quads; first += kAtOnce * threads) {
    float4 v[kAtOnce];
#pragma unroll
    for (unsigned k = 0; k < kAtOnce; ++k) {
      const unsigned at = first + k * threads;
      v[k] = at < quads ? __ldg(vectors + at) : float4{-INFINITY, -INFINITY, -INFINITY, -INFINITY};
    }
#pragma unroll
    for (unsigned k = 0; k < kAtOnce; ++k) {
      const unsigned at = head + 4 * (first + k * threads);
      if (!(v[k].x >= floor || v[k].y >= floor || v[k].z >= floor || v[k].w >= floor)) continue;
      if (v[k].x >= floor) f(v[k].x, at);
      if (v[k].y >= floor) f(v[k].y, at + 1);
      if (v[k].z >= floor) f(v[k].z, at + 2);
      if (v[k].w >= floor) f(v[k].w, at + 3);
    }
  }
}

// As each_score() for those that are there, by the words [begin, end) of flags of an image's map; `index`
// goes by scores.
template <class F>
__device__ void each_flagged_score(const float* scores, const std::uint32_t* flags, unsigned channels,
                                   unsigned begin, unsigned end, float floor, F&& f) {
  constexpr unsigned kAtOnce = 4;
  const unsigned words = flag_words(channels), threads = blockDim.x;
  const auto four = [&](unsigned at) {
    const float4 v = __ldg(reinterpret_cast<const float4*>(scores + at));
    if (v.x >= floor) f(v.x, at);
    if (v.y >= floor) f(v.y, at + 1);
    if (v.z >= floor) f(v.z, at + 2);
    if (v.w >= floor) f(v.w, at + 3);
  };
  for (unsigned first = begin + threadIdx.x; first < end; first += kAtOnce * threads) {
    std::uint32_t bits[kAtOnce];
#pragma unroll
    for (unsigned k = 0; k < kAtOnce; ++k) {
      const unsigned at = first + k * threads;
      bits[k] = at < end ? __ldg(flags + at) & flag_mask(channels, at % words) : 0;
    }
#pragma unroll
    for (unsigned k = 0; k < kAtOnce; ++k) {
      const unsigned at = first + k * threads, lane = at / words % kFlagLanes;
      const unsigned start = at / (words * kFlagLanes) * channels + at % words * kWordScores;
      for (; bits[k] != 0; bits[k] &= bits[k] - 1) {
        const auto bit = static_cast<unsigned>(__ffs(static_cast<int>(bits[k])) - 1);
        four(start + bit / 8 * kByteScores + bit % 8 * 16 + lane * kFlaggedTogether);
      }
    }
  }
}

}  // namespace osprey::cuda
