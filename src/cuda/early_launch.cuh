// Launches whose blocks begin while the kernel before them in the stream still runs, where
// may_launch_early(). Such a kernel reads nothing that another one writes, and writes nothing, before
// await_launch_before(), which every block of it calls: then its end is also the end of all before it, for
// the next one.
#pragma once

#include <cuda_runtime.h>

#include "cuda/check.h"
#include "cuda/early_launch.h"

namespace osprey {

// Until the kernels before this one have ended and what they wrote can be seen.
__device__ inline void await_launch_before() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// The blocks of a next kernel that may begin early do so once all blocks of this one have come here, or
// ended.
__device__ inline void begin_next_launch() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

struct EarlyLaunch {
  unsigned blocks = 0;
  int threads = 0, shared_bytes = 0;  // of a block
  bool early = false;                 // else as any other launch
  cudaStream_t stream = nullptr;
};

template <class Parameter>
void launch_early(void (*kernel)(Parameter), const EarlyLaunch& how, const Parameter& parameter) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(how.blocks);
  config.blockDim = dim3(static_cast<unsigned>(how.threads));
  config.dynamicSmemBytes = static_cast<std::size_t>(how.shared_bytes);
  config.stream = how.stream;
  config.attrs = &attribute;
  config.numAttrs = how.early ? 1 : 0;
  cuda_check(cudaLaunchKernelEx(&config, kernel, parameter), "launching a kernel");
}

}  // namespace osprey
