// Transposed convolutions against the CPU's.
#include "ops/conv_transpose.h"

#include "cuda/cuda_harness.h"

namespace osprey {
namespace {

struct TransposeCase {
  ConvTranspose op;
  std::int64_t channels, outputs, kernel;
  bool bias = true;
};

TEST(CudaConvTranspose, AsOnTheCpu) {
  SKIP_WITHOUT_GPU();
  const std::vector<TransposeCase> cases{
      {{.activation = Activation::kRelu}, 32, 16, 2},
      {{.activation = Activation::kRelu}, 16, 24, 2},
      {{.activation = Activation::kSigmoid, .f32_out = true}, 16, 3, 2},
      {{}, 8, 17, 2, false},
      {{.pads = {1, 1, 1, 1}}, 16, 17, 4},
      {{.pads = {1, 1, 1, 1}, .f32_out = true}, 64, 17, 4},
      {{.pads = {1, 1, 1, 1}, .activation = Activation::kRelu}, 512, 32, 4},
      {{.pads = {0, 1, 1, 0}}, 16, 8, 3},
      {{.stride = {1, 1}, .pads = {1, 1, 1, 1}}, 16, 16, 3},
      {{.stride = {3, 3}}, 16, 16, 2},
      {{.stride = {3, 2}, .activation = Activation::kSwish}, 16, 16, 2, false},
  };
  for (const TransposeCase& c : cases)
    for (const DType type : {DType::kF32, DType::kF16, DType::kBF16})
      for (const std::int64_t rows : {0, 1, 35, 40}) {
        const DType out = c.op.f32_out ? DType::kF32 : type;
        KernelCase test{.op = c.op, .inputs = {}};
        test.inputs.push_back({rounded_to(random_tensor({rows, c.channels, 5, 4}, -1, 1, 1), type), {}, 40});
        test.inputs.push_back(
            {rounded_to(random_tensor({c.channels, c.outputs, c.kernel, c.kernel}, -0.3f, 0.3f, 2), type)});
        test.inputs.push_back({c.bias ? random_tensor({c.outputs}, -1, 1, 3) : Tensor()});
        const double tolerance = out == DType::kF16 ? 0x1p-10 : out == DType::kBF16 ? 0x1p-7 : 3e-6;
        expect_as_on_cpu(test, tolerance,
                         fmt::format("{} -> {}, kernel {}, stride {}, {}, {} rows", c.channels, c.outputs,
                                     c.kernel, c.op.stride[0], name_of(type), rows));
      }
}

}  // namespace
}  // namespace osprey
