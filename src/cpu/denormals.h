// Denormal numbers, those below 1.2e-38, are zero while a graph runs on an x86-64 processor: it takes a
// hundred times as long over them, and activations that fade out (a swish of -100 is -4e-42) make whole maps
// of them. TensorFlow does the same. Other processors keep them.
#pragma once

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace osprey {

#if defined(__x86_64__)

// On the calling thread and the OpenMP threads that work for it; afterwards they are as the caller was.
class DenormalScope {
 public:
  explicit DenormalScope(int threads) : threads_(threads), before_(_mm_getcsr() & kFlags) { set(kFlags); }
  ~DenormalScope() { set(before_); }
  DenormalScope(const DenormalScope&) = delete;
  DenormalScope& operator=(const DenormalScope&) = delete;

 private:
  static constexpr unsigned kFlushResults = 0x8000, kZeroOperands = 0x0040,
                            kFlags = kFlushResults | kZeroOperands;

  void set(unsigned flags) const {
    set_here(flags);  // first: threads that OpenMP starts inherit them
#pragma omp parallel num_threads(threads_) if (threads_ > 1)
    set_here(flags);
  }
  static void set_here(unsigned flags) { _mm_setcsr((_mm_getcsr() & ~kFlags) | flags); }

  const int threads_;
  const unsigned before_;
};

#else

class DenormalScope {
 public:
  explicit DenormalScope(int) {}
};

#endif

}  // namespace osprey
