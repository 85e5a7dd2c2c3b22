// Convolutions through cuDNN, and 1x1 ones through cuBLASLt where that is faster. What a library does not
// fuse, our own kernel adds where the result lies.
#include "ops/conv.h"

#include "cuda/cudnn.h"
#include "cuda/gemm.h"
#include "cuda/matrix_kernels.h"
#include "cuda/packed_weights.h"
#include "cuda/stem_conv.h"

namespace osprey {
namespace {

// What a library does to a convolution's sums before it stores them, and how a call's name says so.
struct Fused {
  bool bias = false, residual = false, activation = false;
  const char* suffix = "";
};
constexpr Fused kAll{true, true, true, ""};
constexpr Fused kBias{true, false, false, ", rest apart"};
constexpr Fused kNothing{false, false, false, ", bias and rest apart"};

// A library's call, and our own kernel for what it leaves to be done.
class CompletedCall final : public MatrixCall {
 public:
  CompletedCall(std::unique_ptr<MatrixCall> call, const Fused& fused, const Epilogue& epilogue, DType type)
      : call_(std::move(call)), fused_(fused), epilogue_(epilogue), type_(type) {}

  void run(const MatrixOperands& o, std::byte* workspace, cudaStream_t stream) const override {
    MatrixOperands inner = o;
    inner.residual = nullptr;
    if (!fused_.bias) inner.bias = nullptr;
    call_->run(inner, workspace, stream);
    launch_epilogue(epilogue_, type_, o.y, fused_.bias ? nullptr : static_cast<const float*>(o.bias),
                    o.residual, stream);
  }
  std::size_t workspace() const override { return call_->workspace(); }
  std::string name() const override { return call_->name() + fused_.suffix; }
  std::string saved() const override { return call_->saved(); }

 private:
  std::unique_ptr<MatrixCall> call_;
  Fused fused_;
  Epilogue epilogue_;
  DType type_;
};

std::array<std::int64_t, 4> dims4(const Shape& dims) { return {dims[0], dims[1], dims[2], dims[3]}; }

// The ways to compute one convolution.
class ConvSearch {
 public:
  explicit ConvSearch(const CudaPrepare& p)
      : p_(p),
        op_(p.op<Conv>()),
        x_(p.input(0)),
        y_(p.output(0)),
        weight_(p.input(1).dims),
        bias_(p.has_input(2)),
        residual_(p.has_input(3)) {}

  std::string key() const { return cudnn_conv(kAll).key(); }

  std::vector<MatrixWay> ways() const {
    std::vector<MatrixWay> out;
    for (const Fused& fused : levels()) {
      add(out, fused);
      // Where all can be fused the rest is no faster, except that no matrix product enlarges a residual.
      if (!out.empty() && !exact() && !enlarges()) break;
    }
    return out;
  }

  std::unique_ptr<MatrixCall> restored(const TunedChoice& choice) const {
    for (const Fused& fused : levels()) {
      const std::string suffix = suffix_of(fused);
      if (!choice.name.ends_with(suffix)) continue;
      const TunedChoice inner{choice.name.substr(0, choice.name.size() - suffix.size()), choice.saved};
      if (!choice.saved.empty())
        if (auto call = restored_cudnn_call(cudnn_conv(fused), inner))
          return completed(std::move(call), fused);
      if (choice.saved.empty() && is_product(fused))
        for (const MatrixWay& way : gemm_ways(product(fused)))
          if (way.name == inner.name) return completed(way.make(), fused);
    }
    return nullptr;
  }

 private:
  bool enlarges() const { return residual_ && op_.residual_scale != 1; }
  bool exact() const { return x_.dtype == DType::kF32 && !p_.tf32(); }
  bool keeps_size() const {
    return weight_[2] == 1 && weight_[3] == 1 && op_.stride == std::vector<int>{1, 1} &&
           op_.pads == std::vector<int>{0, 0, 0, 0} && op_.groups == 1;
  }
  bool is_product(const Fused& fused) const { return keeps_size() && !(fused.residual && enlarges()); }
  bool leaves_work(const Fused& f) const {
    return (bias_ && !f.bias) || (residual_ && !f.residual) ||
           (op_.activation != Activation::kNone && !f.activation);
  }
  std::string suffix_of(const Fused& fused) const { return leaves_work(fused) ? fused.suffix : ""; }

  // The more is fused the better, but no library fuses everything in every type.
  std::vector<Fused> levels() const {
    std::vector<Fused> out;
    for (const Fused& fused : {kAll, kBias, kNothing})
      if (out.empty() || leaves_work(fused)) out.push_back(fused);
    return out;
  }

  // In exact f32 cuDNN's good kernels know only bias and ReLU.
  bool cudnn_fuses(const Fused& fused) const {
    if (fused.residual && enlarges()) return keeps_size() && !exact();
    return !exact() || !fused.activation || (bias_ && !residual_ && op_.activation == Activation::kRelu);
  }

  void add(std::vector<MatrixWay>& out, const Fused& fused) const {
    std::vector<MatrixWay> found;
    if (is_product(fused)) found = gemm_ways(product(fused));
    // Without a budget only the first will be looked at.
    const bool enough = p_.tuner().seconds_left() == 0 && !(found.empty() && out.empty());
    if (!enough && cudnn_fuses(fused))
      for (MatrixWay& way : cudnn_ways(cudnn_conv(fused))) found.push_back(std::move(way));
    for (MatrixWay& way : found)
      out.push_back({way.name + suffix_of(fused),
                     [this, make = std::move(way.make), fused] { return completed(make(), fused); }});
  }

  std::unique_ptr<MatrixCall> completed(std::unique_ptr<MatrixCall> call, const Fused& fused) const {
    if (!call || !leaves_work(fused)) return call;
    const Epilogue epilogue{.rows = y_.dims[0],
                            .height = y_.dims[2],
                            .width = y_.dims[3],
                            .channels = y_.dims[1],
                            .scale = op_.residual_scale,
                            .activation = fused.activation ? Activation::kNone : op_.activation};
    return std::make_unique<CompletedCall>(std::move(call), fused, epilogue, y_.dtype);
  }

  CudnnConv cudnn_conv(const Fused& fused) const {
    return {.type = x_.dtype,
            .out_type = y_.dtype,
            .x = dims4(x_.dims),
            .weight = dims4(weight_),
            .y = dims4(y_.dims),
            .stride = {op_.stride[0], op_.stride[1]},
            .dilation = {op_.dilation[0], op_.dilation[1]},
            .pads_before = {op_.pads[0], op_.pads[1]},
            .pads_after = {op_.pads[2], op_.pads[3]},
            .bias = bias_ && fused.bias,
            .residual = residual_ && fused.residual,
            .tf32 = p_.tf32(),
            .activation = fused.activation ? op_.activation : Activation::kNone,
            .residual_scale = op_.residual_scale};
  }

  Gemm product(const Fused& fused) const {
    return {.rows = x_.dims[0] * x_.dims[2] * x_.dims[3],
            .inputs = x_.dims[1],
            .outputs = y_.dims[1],
            .type = x_.dtype,
            .out_type = y_.dtype,
            .residual = residual_ && fused.residual,
            .tf32 = p_.tf32(),
            .activation = fused.activation ? op_.activation : Activation::kNone,
            .bias = bias_ && fused.bias ? packed_vector(p_, 2, y_.dtype) : nullptr};
  }

  const CudaPrepare& p_;
  const Conv& op_;
  const CudaValue &x_, &y_;
  const Shape& weight_;
  const bool bias_, residual_;
};

class ConvStep final : public CudaStep {
 public:
  explicit ConvStep(CudaPrepare& p) {
    const CudaValue &x = p.input(0), &y = p.output(0);
    const Shape& w = p.input(1).dims;
    flops_ = 2.0 * static_cast<double>(w[1] * w[2] * w[3]) * static_cast<double>(element_count(y.dims));
    weight_ = packed_weight(p, 1, fmt::format("channels last {}", name_of(x.dtype)), [&](const Tensor& f32) {
      return as_type(permuted(f32, {0, 2, 3, 1}), x.dtype);
    });
    if (p.has_input(2)) bias_ = packed_vector(p, 2, DType::kF32);
    const ConvSearch search(p);
    call_ =
        fastest_call(p, {.key = search.key(),
                         .ways = [&] { return search.ways(); },
                         .restore = [&](const TunedChoice& choice) { return search.restored(choice); },
                         .type = x.dtype,
                         .out_type = y.dtype,
                         .x_count = element_count(x.dims),
                         .y_count = element_count(y.dims),
                         .residual_count = p.has_input(3) ? element_count(p.input(3).dims) : 0,
                         .constants = {.weight = weight_->data(), .bias = bias_ ? bias_->data() : nullptr}});
    if (!call_) fail(ErrorCode::kDevice, "{}: cuDNN has nothing for {}", p.node().name, search.key());
    p.request_scratch(call_->workspace());
  }

  void launch(CudaRun& run) override {
    call_->run({.x = run.in(0).data,
                .weight = weight_->data(),
                .bias = bias_ ? bias_->data() : nullptr,
                .residual = run.has_input(3) ? run.in(3).data : nullptr,
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

CudaKernel conv_cuda() {
  return {.op = &kOpInfo<Conv>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare = [](CudaPrepare& p) -> std::unique_ptr<CudaStep> {
            if (auto stem = stem_conv_step(p)) return stem;
            return std::make_unique<ConvStep>(p);
          }};
}

}  // namespace osprey
