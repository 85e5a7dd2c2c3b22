// Several kernels compute the same sums exactly; which is fastest is measured.
#include "ops/quantized_conv.h"

#include <algorithm>

#include <fmt/format.h>

#include "cuda/bench_run.h"
#include "cuda/measure.h"
#include "cuda/quantized_conv_step.h"
#include "cuda/quantized_depthwise.h"
#include "cuda/quantized_hopper_step.h"
#include "cuda/tuner.h"

namespace osprey {
namespace {

enum Input : std::size_t { kX, kWeight, kScale, kBias, kResidual };

// Everything that the speed depends on.
std::string key_of(const CudaPrepare& p) {
  const auto& op = p.op<QuantizedConv>();
  const Shape& weight = p.input(kWeight).dims;
  return fmt::format("quantized_conv {} {} > {} {} {}x{} stride {}x{} dilation {}x{}{}",
                     name_of(p.input(kX).dtype), to_string(p.input(kX).dims), to_string(p.output(0).dims),
                     name_of(p.output(0).dtype), weight[2], weight[3], op.stride[0], op.stride[1],
                     op.dilation[0], op.dilation[1],
                     p.has_input(kResidual) ? fmt::format(" + 1/{}", op.residual_upsampling) : "");
}

std::unique_ptr<CudaStep> fastest(CudaPrepare& p) {
  std::vector<std::string> names = quantized_matrix_ways(p);
  const std::string key = key_of(p);
  const auto known = p.tuner().find(key);
  if (known && std::ranges::find(names, known->name) != names.end())
    return quantized_matrix_step(p, known->name);
  auto hopper = quantized_hopper_step(p);
  if (hopper && (known || p.tuner().seconds_left() == 0)) return hopper;
  if (!hopper && (names.size() == 1 || p.tuner().seconds_left() == 0))
    return quantized_matrix_step(p, names[0]);
  std::vector<std::unique_ptr<CudaStep>> steps;
  for (const std::string& name : names) steps.push_back(quantized_matrix_step(p, name));
  if (hopper) {
    names.insert(names.begin(), "hopper");
    steps.insert(steps.begin(), std::move(hopper));
  }
  CudaPrepare* const member = &p;
  BenchRun run({&member, 1}, 0);
  const std::size_t best = p.tuner().choose(key, names, [&](std::size_t i) {
    return measure_launches(run.stream(), [&] { steps[i]->launch(run); });
  });
  return std::move(steps[best]);
}

}  // namespace

CudaKernel quantized_conv_cuda() {
  return {.op = &kOpInfo<QuantizedConv>,
          .dtypes = {DType::kI8, DType::kU8},
          .prepare = [](CudaPrepare& p) -> std::unique_ptr<CudaStep> {
            if (auto depthwise = quantized_depthwise_step(p)) return depthwise;
            return fastest(p);
          }};
}

}  // namespace osprey
