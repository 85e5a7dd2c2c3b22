// Where values lie in one block of memory, given when each is alive. Device-free: executors give sizes in
// bytes.
//
// Largest first, each into the smallest gap that fits among what is alive at the same time (greedy by size,
// best fit; Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020).
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace osprey {

struct MemoryRequest {
  std::size_t bytes = 0;
  int first = 0, last = 0;  // the steps that make it and use it last, both included
  // A request whose memory this one may take over: it is made by the step that uses the other one last.
  int reuses = -1;
};

struct MemoryPlan {
  std::size_t bytes = 0;
  std::vector<std::size_t> offsets;  // one a request, multiples of the alignment
  std::vector<bool> in_place;        // whether `reuses` was granted
};

// `reuses` is granted when the other request dies at this one's first step, is at least as large, and nobody
// took it over before.
MemoryPlan plan_memory(std::span<const MemoryRequest> requests, std::size_t alignment = 64);

}  // namespace osprey
