#include "cuda/check.h"

namespace osprey {

void fail_cuda(cudaError_t code, std::string_view what) {
  cudaGetLastError();  // a launch that failed must not be blamed on the next call
  switch (code) {
    case cudaErrorMemoryAllocation:
      fail(ErrorCode::kDevice,
           "{}: the GPU is out of memory; free some, use a smaller --batch, or --precision fp16", what);
    case cudaErrorNoKernelImageForDevice:
      fail(ErrorCode::kDevice,
           "{}: this Osprey was built without code for this GPU; build it again with "
           "-DCMAKE_CUDA_ARCHITECTURES=native",
           what);
    case cudaErrorInsufficientDriver:
      fail(ErrorCode::kDevice,
           "{}: the NVIDIA driver is missing, or older than the CUDA runtime {}; "
           "`osprey doctor` tells more",
           what, CUDART_VERSION);
    default:
      fail(ErrorCode::kDevice, "{}: {} ({})", what, cudaGetErrorString(code), cudaGetErrorName(code));
  }
}

}  // namespace osprey
