#include "cuda/box_logits.cuh"
#include "cuda/elementwise.cuh"
#include "ops/refine_boxes.h"

namespace osprey {
namespace {

struct Refined {
  const float *deltas, *boxes;
  float* y;
  float epsilon;
  __device__ void operator()(std::int64_t i) const {
    y[i] = cuda::sigmoid_rounded(deltas[i] + cuda::box_logit(boxes[i], epsilon));
  }
};

}  // namespace

CudaKernel refine_boxes_cuda() {
  return {.op = &kOpInfo<RefineBoxes>,
          .dtypes = {DType::kF32},
          .prepare =
              [](CudaPrepare& p) {
                return cuda_step([epsilon = p.op<RefineBoxes>().epsilon](CudaRun& run) {
                  launch_elementwise(
                      run.out(0), run.stream(),
                      Refined{run.in(0).as<float>(), run.in(1).as<float>(), run.out(0).as<float>(), epsilon});
                });
              },
          .in_place = {0, 1}};
}

}  // namespace osprey
