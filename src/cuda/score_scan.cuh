// A pass over many scores in search of the few that are high enough.
#pragma once

#include <cmath>
#include <cstdint>

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

}  // namespace osprey::cuda
