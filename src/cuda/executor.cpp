#include "cuda/executor.h"

#include <fmt/format.h>

#include "cuda/probe.h"
#include "cuda/session.h"

namespace osprey {
namespace {

class PlanCudaExecutor final : public CudaExecutor {
 public:
  explicit PlanCudaExecutor(std::shared_ptr<const CudaShared> shared) : shared_(std::move(shared)) {}
  std::unique_ptr<ExecutorSession> session() const override { return cuda_session(); }
  std::unique_ptr<CudaSession> cuda_session() const override {
    cuda_check(cudaSetDevice(shared_->device().index), shared_->device().name);
    return std::make_unique<PlanCudaSession>(shared_);
  }
  const CudaDevice& device() const override { return shared_->device(); }

 private:
  std::shared_ptr<const CudaShared> shared_;
};

CudaDevice describe(int index) {
  cudaDeviceProp p{};
  cuda_check(cudaGetDeviceProperties(&p, index), fmt::format("GPU {}", index));
  CudaDevice out{.index = index,
                 .name = p.name,
                 .major = p.major,
                 .minor = p.minor,
                 .multiprocessors = p.multiProcessorCount,
                 .memory = p.totalGlobalMem,
                 .l2_bytes = static_cast<std::size_t>(p.l2CacheSize),
                 .shared_bytes_optin = p.sharedMemPerBlockOptin};
  cudaDriverGetVersion(&out.driver);
  cudaRuntimeGetVersion(&out.runtime);
  return out;
}

}  // namespace

std::vector<CudaDevice> cuda_devices(std::string* why) {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code != cudaSuccess || count == 0) {
    cudaGetLastError();
    if (why)
      *why = code == cudaErrorInsufficientDriver
                 ? "no NVIDIA driver is installed here (or one older than CUDA " +
                       fmt::format("{}.{}", CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10) + ")"
                 : fmt::format("no NVIDIA GPU can be used: {}", cudaGetErrorString(code));
    return {};
  }
  std::vector<CudaDevice> out;
  for (int i = 0; i < count; ++i) out.push_back(describe(i));
  return out;
}

std::unique_ptr<CudaExecutor> make_cuda_executor(std::shared_ptr<const Graph> graph,
                                                 const CudaOptions& options) {
  auto shared = std::make_shared<const CudaShared>(std::move(graph), options);
  probe_device_code();
  return std::make_unique<PlanCudaExecutor>(std::move(shared));
}

}  // namespace osprey
