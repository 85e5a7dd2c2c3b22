// Elementwise kernels over whole values, whatever their layout.
#pragma once

#include <algorithm>

#include "cpu/floats.h"
#include "cpu/kernel.h"

namespace osprey {

// body(begin, end) over ranges of the stored elements of `value`, padded lanes included, on the threads.
template <class Body>
void for_elements(const CpuValue& value, int threads, Body&& body) {
  constexpr std::int64_t kRange = 1 << 14;
  const auto n = static_cast<std::int64_t>(value.bytes() / size_of(value.dtype));
  cpu_for((n + kRange - 1) / kRange, threads,
          [&](std::int64_t i) { body(i * kRange, std::min(n, (i + 1) * kRange)); });
}

template <class T>
const T* elements_in(const CpuRun& run, std::size_t i) {
  return reinterpret_cast<const T*>(run.in(i).data);
}
template <class T>
T* elements_out(const CpuRun& run) {
  return reinterpret_cast<T*>(run.out(0).data);
}

}  // namespace osprey
