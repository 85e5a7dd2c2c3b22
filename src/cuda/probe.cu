#include "cuda/check.h"
#include "cuda/probe.h"

namespace osprey {
namespace {

__global__ void probe() {}

}  // namespace

void probe_device_code() {
  cudaFuncAttributes attributes{};
  cuda_check(cudaFuncGetAttributes(&attributes, probe), "looking for code for this GPU");
}

}  // namespace osprey
