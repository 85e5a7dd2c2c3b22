#include "ops/refine_boxes.h"

#include "cpu/box_logits.h"
#include "cpu/elementwise.h"

namespace osprey {

CpuKernel refine_boxes_cpu() {
  return {.op = &kOpInfo<RefineBoxes>,
          .dtypes = {DType::kF32},
          .prepare =
              [](CpuPrepare& p) {
                return cpu_step([epsilon = p.op<RefineBoxes>().epsilon](CpuRun& run) {
                  const float *deltas = elements_in<float>(run, 0), *boxes = elements_in<float>(run, 1);
                  float* y = elements_out<float>(run);
                  for_elements(run.out(0), run.threads(), [=](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t i = begin; i < end; ++i)
                      y[i] = sigmoid(deltas[i] + box_logit(boxes[i], epsilon));
                  });
                });
              },
          .in_place = {0, 1}};
}

}  // namespace osprey
