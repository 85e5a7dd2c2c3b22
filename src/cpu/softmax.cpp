#include "ops/softmax.h"

#include <algorithm>
#include <cmath>

#include "cpu/kernel.h"

namespace osprey {
namespace {

void softmax_row(const float* x, float* y, std::int64_t n) {
  const float largest = *std::max_element(x, x + n);
  float sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += y[i] = std::exp(x[i] - largest);
  for (std::int64_t i = 0; i < n; ++i) y[i] /= sum;
}

}  // namespace

CpuKernel softmax_cpu() {
  return {.op = &kOpInfo<Softmax>,
          .dtypes = {DType::kF32},
          .prepare =
              [](CpuPrepare&) {
                return cpu_step([](CpuRun& run) {
                  const auto x = run.input<float, 2>(0);
                  const auto y = run.output<float, 2>(0);
                  cpu_for(x.dim(0), run.threads(),
                          [&](std::int64_t r) { softmax_row(x.at(r), y.at(r), x.dim(1)); });
                });
              },
          .in_place = {0}};
}

}  // namespace osprey
