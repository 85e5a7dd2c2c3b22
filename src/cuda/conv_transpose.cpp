// Transposed convolution: one matrix product gives what every input pixel adds to the kh x kw pixels of its
// window, and our own kernel sums that where windows overlap. Where they do not (the mask head's), the
// product adds bias and ReLU itself and the kernel only puts the pixels into place.
#include "ops/conv_transpose.h"

#include "cuda/alignment.h"
#include "cuda/gemm.h"
#include "cuda/matrix_kernels.h"
#include "cuda/packed_weights.h"

namespace osprey {
namespace {

bool windows_overlap(const ConvTranspose& op, const Shape& weight) {
  return weight[2] > op.stride[0] || weight[3] > op.stride[1];
}

// Some pixels of the result lie in no window: only the kernel gives them their bias.
bool covers_all(const ConvTranspose& op, const Shape& weight) {
  return weight[2] >= op.stride[0] && weight[3] >= op.stride[1];
}

Tensor repeated(const Tensor& bias, std::int64_t times) {
  Tensor out = Tensor::zeros(DType::kF32, {times * bias.dim(0)});
  for (std::int64_t t = 0; t < times; ++t)
    std::memcpy(out.mutable_data() + static_cast<std::size_t>(t) * bias.bytes().size(), bias.bytes().data(),
                bias.bytes().size());
  return out;
}

class ConvTransposeStep final : public CudaStep {
 public:
  explicit ConvTransposeStep(CudaPrepare& p) {
    const ConvTranspose& op = p.op<ConvTranspose>();
    const CudaValue &x = p.input(0), &y = p.output(0);
    const Shape& w = p.input(1).dims;
    const bool apart = !windows_overlap(op, w) && covers_all(op, w);
    const std::int64_t taps = w[2] * w[3];
    weight_ = packed_weight(p, 1, fmt::format("taps {}", name_of(x.dtype)), [&](const Tensor& f32) {
      return as_type(permuted(f32, {2, 3, 1, 0}), x.dtype);  // [kh, kw, O, C]
    });
    Gemm gemm{.rows = x.dims[0] * x.dims[2] * x.dims[3],
              .inputs = w[0],
              .outputs = taps * w[1],
              .type = x.dtype,
              .out_type = apart ? y.dtype : DType::kF32,  // sums are rounded once
              .tf32 = p.tf32()};
    sum_ = {.rows = x.dims[0],
            .channels = w[1],
            .height = static_cast<int>(x.dims[2]),
            .width = static_cast<int>(x.dims[3]),
            .out_height = static_cast<int>(y.dims[2]),
            .out_width = static_cast<int>(y.dims[3]),
            .kernel = {static_cast<int>(w[2]), static_cast<int>(w[3])},
            .stride = {op.stride[0], op.stride[1]},
            .pads = {op.pads[0], op.pads[1]}};
    (apart ? gemm.activation : sum_.activation) = op.activation;
    if (p.has_input(2) && apart)
      gemm.bias = packed_weight(p, 2, fmt::format("{} of {} taps", name_of(y.dtype), taps),
                                [&](const Tensor& f32) { return as_type(repeated(f32, taps), y.dtype); });
    else if (p.has_input(2))
      bias_ = packed_vector(p, 2, DType::kF32);
    call_ = fastest_gemm(p, gemm, weight_->data());
    taps_type_ = gemm.out_type;
    taps_bytes_ = device_aligned(static_cast<std::size_t>(gemm.rows * gemm.outputs) * size_of(taps_type_));
    flops_ = gemm.flops();
    p.request_scratch(taps_bytes_ + call_->workspace());
  }

  void launch(CudaRun& run) override {
    std::byte* taps = run.scratch();
    call_->run({.x = run.in(0).data, .weight = weight_->data(), .y = taps}, taps + taps_bytes_, run.stream());
    launch_tap_sum(sum_, taps_type_, taps, run.out(0).dtype, run.out(0).data,
                   bias_ ? bias_->as<float>() : nullptr, run.stream());
  }
  std::string detail() const override { return call_->name() + " + taps"; }
  double flops() const override { return flops_; }

 private:
  TapSum sum_;
  DType taps_type_ = DType::kF32;
  std::size_t taps_bytes_ = 0;
  std::shared_ptr<const DeviceBuffer> weight_, bias_;  // bias: where the product does not add it
  std::unique_ptr<MatrixCall> call_;
  double flops_ = 0;
};

}  // namespace

CudaKernel conv_transpose_cuda() {
  return {.op = &kOpInfo<ConvTranspose>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare = [](CudaPrepare& p) -> std::unique_ptr<CudaStep> {
            return std::make_unique<ConvTransposeStep>(p);
          }};
}

}  // namespace osprey
