#include "cuda/bench_run.h"

#include "cuda/matrix_kernels.h"

namespace osprey {

BenchRun::BenchRun(std::span<CudaPrepare* const> members, std::size_t scratch)
    : scratch_(scratch), stream_(members.front()->stream()) {
  for (const CudaPrepare* p : members) {
    const auto& inputs = p->node().inputs;
    for (std::size_t i = 0; i < inputs.size(); ++i)
      ins_.push_back(p->has_input(i) && !p->graph().weight(inputs[i]) ? filled(p->input(i)) : CudaValue{});
    outs_.push_back(filled(p->output(0)));
  }
}

CudaValue BenchRun::filled(CudaValue value) {
  const DeviceBuffer& buffer = buffers_.emplace_back((value.bytes() + 1) / 2 * 2);
  value.data = buffer.data();
  if (size_of(value.dtype) == 1)  // any bits will do
    fill_random(value.data, DType::kF16, static_cast<std::int64_t>(buffer.size() / 2), stream_);
  else
    fill_random(value.data, value.dtype, element_count(value.dims), stream_);
  return value;
}

}  // namespace osprey
