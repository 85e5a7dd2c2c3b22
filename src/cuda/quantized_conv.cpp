// Several kernels compute the same sums exactly; which is fastest is measured.
#include "ops/quantized_conv.h"

#include <algorithm>

#include <fmt/format.h>

#include "cuda/bench_run.h"
#include "cuda/measure.h"
#include "cuda/quantized_1x1_step.h"
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
  return fmt::format("{} {} {} > {} {} {}x{} stride {}x{} dilation {}x{}{}",
                     is_quantized_1x1(p) ? "int8 1x1" : "int8 conv", name_of(p.input(kX).dtype),
                     to_string(p.input(kX).dims), to_string(p.output(0).dims), name_of(p.output(0).dtype),
                     weight[2], weight[3], op.stride[0], op.stride[1], op.dilation[0], op.dilation[1],
                     p.has_input(kResidual) ? fmt::format(" + 1/{}", op.residual_upsampling) : "");
}

constexpr std::string_view kHopper = "hopper";

// Kernels that take it, but for Hopper's, the most promising first.
std::vector<std::string> ways_of(const CudaPrepare& p) {
  std::vector<std::string> out = quantized_matrix_ways(p);
  if (is_quantized_1x1(p))
    out.insert(is_short_quantized_1x1(p) ? out.begin() : out.end(), std::string(kQuantized1x1));
  return out;
}

std::unique_ptr<CudaStep> step_of(CudaPrepare& p, const std::string& way) {
  return way == kQuantized1x1 ? quantized_1x1_step(p) : quantized_matrix_step(p, way);
}

std::unique_ptr<CudaStep> fastest(CudaPrepare& p) {
  std::vector<std::string> names = ways_of(p);
  const std::string key = key_of(p);
  const auto known = p.tuner().find(key);
  if (known && std::ranges::find(names, known->name) != names.end()) return step_of(p, known->name);
  auto hopper = quantized_hopper_step(p);
  if (known || p.tuner().seconds_left() == 0 || (!hopper && names.size() == 1))
    return hopper ? std::move(hopper) : step_of(p, names[0]);
  std::vector<std::unique_ptr<CudaStep>> steps;
  for (const std::string& name : names) steps.push_back(step_of(p, name));
  if (hopper) {
    names.insert(names.begin(), std::string(kHopper));
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
