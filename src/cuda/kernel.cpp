#include "cuda/kernel.h"

#include <algorithm>

#include "ops/flatten.h"
#include "ops/linear.h"
#include "ops/quantized_linear.h"

namespace osprey {
namespace {

class CallableStep final : public CudaStep {
 public:
  CallableStep(std::function<void(CudaRun&)> launch, std::string detail)
      : launch_(std::move(launch)), detail_(std::move(detail)) {}
  void launch(CudaRun& run) override { launch_(run); }
  std::string detail() const override { return detail_; }

 private:
  std::function<void(CudaRun&)> launch_;
  std::string detail_;
};

}  // namespace

std::size_t CudaValue::bytes() const {
  return static_cast<std::size_t>(element_count(dims)) * size_of(dtype);
}

std::unique_ptr<CudaStep> cuda_step(std::function<void(CudaRun&)> launch, std::string detail) {
  return std::make_unique<CallableStep>(std::move(launch), std::move(detail));
}

bool flattened_channels_last(const Graph& graph, ValueId flattened) {
  const Node* producer = graph.producer(flattened);
  if (!producer || !producer->op.as<Flatten>() || graph.is_output(flattened)) return false;
  const auto users = graph.users(flattened);
  return std::all_of(users.begin(), users.end(), [](const Node* user) {
    return user->op.as<Linear>() || user->op.as<QuantizedLinear>();
  });
}

}  // namespace osprey
