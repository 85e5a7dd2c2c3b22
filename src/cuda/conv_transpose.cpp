// Transposed convolution, in one of two ways. One matrix product gives what every input pixel adds to the
// kh x kw pixels of its window, and our own kernel sums that into place. Or, where windows lie side by side
// (the mask head's), every row of the window is a 1x1 convolution whose results are rows of y: cuDNN stores
// them there itself.
#include "ops/conv_transpose.h"

#include <fmt/format.h>

#include "cuda/cudnn.h"
#include "cuda/gemm.h"
#include "cuda/matrix_kernels.h"
#include "cuda/packed_weights.h"

namespace osprey {
namespace {

constexpr std::string_view kTaps = ", taps", kRows = ", a row of taps at a time";

std::size_t aligned(std::size_t bytes) { return (bytes + 255) / 256 * 256; }

Tensor repeated(const Tensor& bias, std::int64_t times) {
  Tensor out = Tensor::zeros(DType::kF32, {times * bias.dim(0)});
  for (std::int64_t t = 0; t < times; ++t)
    std::memcpy(out.mutable_data() + static_cast<std::size_t>(t) * bias.bytes().size(), bias.bytes().data(),
                bias.bytes().size());
  return out;
}

// A product into the workspace, summed from there into y.
class TapsCall final : public MatrixCall {
 public:
  // `bias`: where the product does not add it.
  TapsCall(std::unique_ptr<MatrixCall> product, const Gemm& gemm, const TapSum& sum, DType out_type,
           std::shared_ptr<const DeviceBuffer> bias)
      : product_(std::move(product)),
        sum_(sum),
        taps_type_(gemm.out_type),
        out_type_(out_type),
        taps_bytes_(aligned(static_cast<std::size_t>(gemm.rows * gemm.outputs) * size_of(gemm.out_type))),
        bias_(std::move(bias)) {}

  void run(const MatrixOperands& o, std::byte* workspace, cudaStream_t stream) const override {
    product_->run({.x = o.x, .weight = o.weight, .y = workspace}, workspace + taps_bytes_, stream);
    launch_tap_sum(sum_, taps_type_, workspace, out_type_, o.y, bias_ ? bias_->as<float>() : nullptr, stream);
  }
  std::size_t workspace() const override { return taps_bytes_ + product_->workspace(); }
  std::string name() const override { return product_->name() + std::string(kTaps); }

 private:
  std::unique_ptr<MatrixCall> product_;
  TapSum sum_;
  DType taps_type_, out_type_;
  std::size_t taps_bytes_;
  std::shared_ptr<const DeviceBuffer> bias_;
};

// One convolution for each row of the window.
class RowsCall final : public MatrixCall {
 public:
  RowsCall(std::unique_ptr<MatrixCall> row, int rows, std::int64_t weight_bytes, std::int64_t y_bytes)
      : row_(std::move(row)), rows_(rows), weight_bytes_(weight_bytes), y_bytes_(y_bytes) {}

  void run(const MatrixOperands& o, std::byte* workspace, cudaStream_t stream) const override {
    for (int i = 0; i < rows_; ++i)
      row_->run({.x = o.x,
                 .weight = static_cast<const std::byte*>(o.weight) + i * weight_bytes_,
                 .bias = o.bias,
                 .y = static_cast<std::byte*>(o.y) + i * y_bytes_},
                workspace, stream);
  }
  std::size_t workspace() const override { return row_->workspace(); }
  std::string name() const override { return row_->name() + std::string(kRows); }
  std::string saved() const override { return row_->saved(); }

 private:
  std::unique_ptr<MatrixCall> row_;
  int rows_;
  std::int64_t weight_bytes_, y_bytes_;
};

// The ways to compute one transposed convolution.
class TransposeSearch {
 public:
  explicit TransposeSearch(const CudaPrepare& p)
      : p_(p),
        op_(p.op<ConvTranspose>()),
        x_(p.input(0)),
        y_(p.output(0)),
        kernel_{static_cast<int>(p.input(1).dims[2]), static_cast<int>(p.input(1).dims[3])},
        outputs_(p.input(1).dims[1]) {}

  std::string key() const {
    return fmt::format("transposed {} by {} stride {} pads {} to {}{} {}", product().key(),
                       fmt::join(kernel_, ","), fmt::join(op_.stride, ","), fmt::join(op_.pads, ","),
                       to_string(y_.dims), p_.has_input(2) ? " bias" : "",
                       kActivationNames[static_cast<std::size_t>(op_.activation)]);
  }

  double flops() const { return product().flops(); }

  std::vector<MatrixWay> ways() const {
    std::vector<MatrixWay> out;
    for (MatrixWay& way : gemm_ways(product()))
      out.push_back(
          {way.name + std::string(kTaps), [this, make = std::move(way.make)] { return taps_call(make()); }});
    if (!side_by_side() || p_.tuner().seconds_left() == 0) return out;
    for (MatrixWay& way : cudnn_ways(row()))
      out.push_back(
          {way.name + std::string(kRows), [this, make = std::move(way.make)] { return rows_call(make()); }});
    return out;
  }

  std::unique_ptr<MatrixCall> restored(const TunedChoice& choice) const {
    if (choice.name.ends_with(kRows) && !choice.saved.empty())
      return rows_call(restored_cudnn_call(
          row(), {choice.name.substr(0, choice.name.size() - kRows.size()), choice.saved}));
    if (choice.name.ends_with(kTaps))
      for (const MatrixWay& way : gemm_ways(product()))
        if (choice.name == way.name + std::string(kTaps)) return taps_call(way.make());
    return nullptr;
  }

  // What the rows' convolutions add: the bias for each pixel of a row of the window.
  std::shared_ptr<const DeviceBuffer> row_bias() const {
    if (!p_.has_input(2) || !side_by_side()) return nullptr;
    return packed_weight(p_, 2, fmt::format("of {} taps", kernel_[1]),
                         [&](const Tensor& f32) { return repeated(f32, kernel_[1]); });
  }

 private:
  // No pixel of y lies in two windows, and none in no window.
  bool disjoint() const { return kernel_[0] == op_.stride[0] && kernel_[1] == op_.stride[1]; }
  bool side_by_side() const {
    const bool exact = x_.dtype == DType::kF32 && !p_.tf32();
    return disjoint() && op_.pads == std::vector<int>{0, 0, 0, 0} && !exact;
  }

  // Where windows overlap, the sums are rounded once: the product's are f32.
  Gemm product() const {
    const int taps = kernel_[0] * kernel_[1];
    Gemm out{.rows = x_.dims[0] * x_.dims[2] * x_.dims[3],
             .inputs = x_.dims[1],
             .outputs = taps * outputs_,
             .type = x_.dtype,
             .out_type = disjoint() ? y_.dtype : DType::kF32,
             .tf32 = p_.tf32()};
    if (!disjoint()) return out;
    out.activation = op_.activation;
    if (p_.has_input(2))
      out.bias = packed_weight(p_, 2, fmt::format("{} of {} taps", name_of(y_.dtype), taps),
                               [&](const Tensor& f32) { return as_type(repeated(f32, taps), y_.dtype); });
    return out;
  }

  std::unique_ptr<MatrixCall> taps_call(std::unique_ptr<MatrixCall> call) const {
    if (!call) return nullptr;
    const TapSum sum{.rows = x_.dims[0],
                     .channels = outputs_,
                     .height = static_cast<int>(x_.dims[2]),
                     .width = static_cast<int>(x_.dims[3]),
                     .out_height = static_cast<int>(y_.dims[2]),
                     .out_width = static_cast<int>(y_.dims[3]),
                     .kernel = {kernel_[0], kernel_[1]},
                     .stride = {op_.stride[0], op_.stride[1]},
                     .pads = {op_.pads[0], op_.pads[1]},
                     .activation = disjoint() ? Activation::kNone : op_.activation};
    return std::make_unique<TapsCall>(
        std::move(call), product(), sum, y_.dtype,
        p_.has_input(2) && !disjoint() ? packed_vector(p_, 2, DType::kF32) : nullptr);
  }

  // A 1x1 convolution to the pixels of one row of the window, which are neighbours in y.
  CudnnConv row() const {
    const std::int64_t n = x_.dims[0], h = x_.dims[2], w = x_.dims[3], channels = kernel_[1] * outputs_;
    return {.type = x_.dtype,
            .out_type = y_.dtype,
            .x = {n, x_.dims[1], h, w},
            .weight = {channels, x_.dims[1], 1, 1},
            .y = {n, channels, h, w},
            .bias = p_.has_input(2),
            .tf32 = p_.tf32(),
            .activation = op_.activation,
            .y_strides = {kernel_[0] * h * w * channels, 1, kernel_[0] * w * channels, channels}};
  }

  std::unique_ptr<MatrixCall> rows_call(std::unique_ptr<MatrixCall> call) const {
    if (!call) return nullptr;
    const std::int64_t channels = kernel_[1] * outputs_;
    return std::make_unique<RowsCall>(std::move(call), kernel_[0],
                                      channels * x_.dims[1] * static_cast<std::int64_t>(size_of(x_.dtype)),
                                      x_.dims[3] * channels * static_cast<std::int64_t>(size_of(y_.dtype)));
  }

  const CudaPrepare& p_;
  const ConvTranspose& op_;
  const CudaValue &x_, &y_;
  const std::array<int, 2> kernel_;
  const std::int64_t outputs_;
};

class ConvTransposeStep final : public CudaStep {
 public:
  explicit ConvTransposeStep(CudaPrepare& p) {
    const CudaValue &x = p.input(0), &y = p.output(0);
    weight_ = packed_weight(p, 1, fmt::format("taps {}", name_of(x.dtype)), [&](const Tensor& f32) {
      return as_type(permuted(f32, {2, 3, 1, 0}), x.dtype);  // [kh, kw, O, C]
    });
    const TransposeSearch search(p);
    bias_ = search.row_bias();
    flops_ = search.flops();
    MatrixSearch calls;
    calls.key = search.key();
    calls.ways = [&] { return search.ways(); };
    calls.restore = [&](const TunedChoice& choice) { return search.restored(choice); };
    calls.type = x.dtype;
    calls.out_type = y.dtype;
    calls.x_count = element_count(x.dims);
    calls.y_count = element_count(y.dims);
    calls.constants = {.weight = weight_->data(), .bias = bias_ ? bias_->data() : nullptr};
    call_ = fastest_call(p, calls);
    if (!call_) fail(ErrorCode::kDevice, "{}: cuBLASLt has nothing for {}", p.node().name, search.key());
    p.request_scratch(call_->workspace());
  }

  void launch(CudaRun& run) override {
    call_->run({.x = run.in(0).data,
                .weight = weight_->data(),
                .bias = bias_ ? bias_->data() : nullptr,
                .y = run.out(0).data},
               run.scratch(), run.stream());
  }
  std::string detail() const override { return call_->name(); }
  double flops() const override { return flops_; }

 private:
  std::shared_ptr<const DeviceBuffer> weight_, bias_;
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
