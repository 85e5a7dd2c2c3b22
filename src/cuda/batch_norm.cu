// Only where a batch norm could not be folded into a convolution: correct, not fast.
#include "ops/batch_norm.h"

#include "cuda/elementwise.cuh"

namespace osprey {
namespace {

template <class T>
struct Normalised {
  const T* x;
  const float *scale, *bias, *mean, *variance;
  T* y;
  std::int64_t channels;
  float epsilon;
  __device__ void operator()(std::int64_t i) const {
    const std::int64_t c = i % channels;
    const float factor = scale[c] / sqrtf(variance[c] + epsilon);
    // Not as x * factor + (bias - mean * factor), which loses what is small beside the mean; TensorFlow's
    // order.
    y[i] = narrow<T>((widen(x[i]) - mean[c]) * factor + bias[c]);
  }
};

}  // namespace

CudaKernel batch_norm_cuda() {
  return {.op = &kOpInfo<BatchNorm>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare =
              [](CudaPrepare& p) {
                std::vector<std::shared_ptr<const DeviceBuffer>> weights;
                for (std::size_t i = 1; i < 5; ++i)
                  weights.push_back(p.shared(p.graph().value(p.node().inputs[i]).name,
                                             [&] { return DeviceBuffer::holding(p.weight(i).bytes()); }));
                return cuda_step([weights, epsilon = p.op<BatchNorm>().epsilon](CudaRun& run) {
                  with_float_type(run.in(0).dtype, [&](auto zero) {
                    using T = decltype(zero);
                    launch_elementwise(
                        run.out(0), run.stream(),
                        Normalised<T>{run.in(0).as<T>(), weights[0]->as<float>(), weights[1]->as<float>(),
                                      weights[2]->as<float>(), weights[3]->as<float>(), run.out(0).as<T>(),
                                      run.in(0).dims[1], epsilon});
                  });
                });
              },
          .in_place = {0}};
}

}  // namespace osprey
