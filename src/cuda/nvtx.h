// Named ranges on the time line of NVIDIA's profilers (Nsight Systems); without one they cost some
// nanoseconds.
#pragma once

#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define OSPREY_HAS_NVTX 1
#endif

namespace osprey {

// From its making to its end, on the calling thread.
class ProfilerRange {
 public:
#ifdef OSPREY_HAS_NVTX
  explicit ProfilerRange(const char* name) { nvtxRangePushA(name); }
  ~ProfilerRange() { nvtxRangePop(); }
#else
  explicit ProfilerRange(const char*) {}
  ~ProfilerRange() {}
#endif
  ProfilerRange(const ProfilerRange&) = delete;
  ProfilerRange& operator=(const ProfilerRange&) = delete;
};

}  // namespace osprey
