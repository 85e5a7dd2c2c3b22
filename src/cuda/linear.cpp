// Fully connected layers through cuBLASLt.
#include "ops/linear.h"

#include "cuda/gemm.h"
#include "cuda/packed_weights.h"
#include "ops/flatten.h"

namespace osprey {
namespace {

// Weights of [O, C*H*W] for rows that lie H, W, C.
Tensor channels_last_columns(const Tensor& f32, const TensorType& maps) {
  const std::int64_t o = f32.dim(0), c = maps.dims[1].constant(), h = maps.dims[2].constant(),
                     w = maps.dims[3].constant();
  return permuted(f32.reshaped({o, c, h, w}), {0, 2, 3, 1}).reshaped({o, c * h * w});
}

class LinearStep final : public CudaStep {
 public:
  explicit LinearStep(CudaPrepare& p) {
    const CudaValue &x = p.input(0), &y = p.output(0);
    const Gemm gemm{.rows = x.dims[0],
                    .inputs = x.dims[1],
                    .outputs = y.dims[1],
                    .type = x.dtype,
                    .out_type = y.dtype,
                    .tf32 = p.tf32(),
                    .activation = p.op<Linear>().activation,
                    .bias = p.has_input(2) ? packed_vector(p, 2, y.dtype) : nullptr};
    weight_ = packed(p);
    bias_ = gemm.bias;
    call_ = fastest_gemm(p, gemm, weight_->data());
    flops_ = gemm.flops();
    p.request_scratch(call_->workspace());
  }

  void launch(CudaRun& run) override {
    call_->run({.x = run.in(0).data, .weight = weight_->data(), .y = run.out(0).data}, run.scratch(),
               run.stream());
  }
  std::string detail() const override { return call_->name(); }
  double flops() const override { return flops_; }

 private:
  static std::shared_ptr<const DeviceBuffer> packed(const CudaPrepare& p) {
    const DType type = p.input(0).dtype;
    const ValueId rows = p.node().inputs[0];
    if (!flattened_channels_last(p.graph(), rows))
      return packed_weight(p, 1, fmt::format("rows {}", name_of(type)),
                           [&](const Tensor& f32) { return as_type(f32, type); });
    const TensorType& maps = p.graph().value(p.graph().producer(rows)->inputs[0]).type;
    return packed_weight(p, 1, fmt::format("channels last rows {}", name_of(type)),
                         [&](const Tensor& f32) { return as_type(channels_last_columns(f32, maps), type); });
  }

  std::shared_ptr<const DeviceBuffer> weight_, bias_;
  std::unique_ptr<MatrixCall> call_;
  double flops_ = 0;
};

}  // namespace

CudaKernel linear_cuda() {
  return {
      .op = &kOpInfo<Linear>,
      .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
      .prepare = [](CudaPrepare& p) -> std::unique_ptr<CudaStep> { return std::make_unique<LinearStep>(p); }};
}

}  // namespace osprey
