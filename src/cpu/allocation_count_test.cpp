// Every allocation of the test program goes through here, oneDNN's too. A file of its own, so that the
// compiler does not match the replaced operators with each other's callers.
#include <atomic>
#include <cstdlib>
#include <new>

#include "cpu/testing.h"

namespace osprey::testing {
std::atomic<std::size_t> largest_allocation = 0, allocations = 0;
}

void* operator new(std::size_t size) {
  using osprey::testing::largest_allocation;
  ++osprey::testing::allocations;
  std::size_t largest = largest_allocation;
  while (size > largest && !largest_allocation.compare_exchange_weak(largest, size)) {
  }
  if (void* p = std::malloc(size > 0 ? size : 1)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
