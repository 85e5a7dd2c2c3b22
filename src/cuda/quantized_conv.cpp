#include "ops/quantized_conv.h"

#include "cuda/quantized_conv_step.h"

namespace osprey {

CudaKernel quantized_conv_cuda() {
  return {.op = &kOpInfo<QuantizedConv>, .dtypes = {DType::kI8, DType::kU8}, .prepare = [](CudaPrepare& p) {
            return quantized_matrix_step(p);
          }};
}

}  // namespace osprey
