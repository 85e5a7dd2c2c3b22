#include "cpu/kernel.h"

#include <algorithm>

namespace osprey {
namespace {

class CallableStep final : public CpuStep {
 public:
  explicit CallableStep(std::function<void(CpuRun&)> run) : run_(std::move(run)) {}
  void run(CpuRun& r) override { run_(r); }

 private:
  std::function<void(CpuRun&)> run_;
};

std::int64_t round_up(std::int64_t n, std::int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

}  // namespace

std::size_t CpuValue::row_bytes() const {
  std::int64_t n = 1;
  for (std::size_t i = 1; i < dims.size(); ++i)
    n *= i == 1 && dims.size() == 4 && layout.block > 1 ? round_up(dims[i], layout.block) : dims[i];
  return static_cast<std::size_t>(n) * size_of(dtype);
}

std::size_t CpuValue::bytes() const {
  return dims.empty() ? size_of(dtype) : static_cast<std::size_t>(dims[0]) * row_bytes();
}

std::int64_t row_capacity(std::int64_t bound) {
  return bound < 128 ? round_up(bound, 16) : round_up(bound, 128);
}

CpuPlanes::CpuPlanes(const CpuValue& value)
    : height(value.dims.at(2)), width(value.dims.at(3)), channels(value.dims[1]) {
  lanes = value.layout.block == 0 ? channels : value.layout.block;
  per_image = round_up(channels, lanes) / lanes;
  count = value.dims[0] * per_image;
}

std::int64_t CpuPlanes::live_lanes(std::int64_t plane) const {
  return std::min(lanes, channels - plane % per_image * lanes);
}

CpuPort any_port(const Node&, std::size_t, const Graph&) { return CpuPort::kAny; }
CpuPort blocked_port(const Node&, std::size_t, const Graph&) { return CpuPort::kBlocked; }

std::unique_ptr<CpuStep> cpu_step(std::function<void(CpuRun&)> run) {
  return std::make_unique<CallableStep>(std::move(run));
}

}  // namespace osprey
