// The versions of NVIDIA's libraries that this process finds: for reports.
#pragma once

#include <string>

namespace osprey {

struct CudaLibraries {
  std::string runtime;   // "13.0", what Osprey was built with
  std::string driver;    // the newest CUDA that the driver takes; empty: no driver
  std::string cudnn;     // "9.19.0"; empty: not found
  std::string cublaslt;  // "13.1.0"; empty: not found
};

CudaLibraries cuda_libraries();

}  // namespace osprey
