// Convolution through oneDNN, bias, residual and activation fused. A residual that dies here is summed where
// it lies; another one is first copied (a pyramid's coarser level enlarged) to where the result goes.
#include "ops/conv.h"

#include <optional>

#include "cpu/conv_weights.h"
#include "cpu/conv_winograd.h"
#include "cpu/onednn.h"
#include "cpu/planes.h"

namespace osprey {
namespace {

using Desc = dnnl::memory::desc;

constexpr std::size_t kFactor = 4, kOffset = 5;  // inputs

// Rows that primitives over regions of interest are made for.
const std::vector<std::int64_t> kRowSizes{32, 8, 2};

std::array<int, 4> pads_of(const CpuPrepare& p) {
  const auto& weight = p.input_type(1).dims;
  const Shape& x = p.input(0).dims;
  return p.op<Conv>().window(weight[2].constant(), weight[3].constant()).pads_of(x[2], x[3]);
}

class ConvStep final : public CpuStep {
 public:
  explicit ConvStep(CpuPrepare& p) : op_(p.op<Conv>()), pads_(pads_of(p)) {
    const bool residual = p.has_input(3);
    fill_residual_ = residual && !p.in_place(3);
    const ConvWeights w(p.input_type(1), op_.groups, kLanes);
    rows_.emplace(p, kRowSizes, [&](std::int64_t n) { return call(p, w, n); });
    const Shape& y = p.output(0).dims;
    flops_ = w.flops_a_pixel * static_cast<double>(y[0] * y[2] * y[3]);
  }

  void run(CpuRun& run) override {
    if (fill_residual_) upsample_nearest(run.in(3), run.out(0), op_.residual_scale, run.threads());
    rows_->run(run);
  }
  std::string detail() const override { return rows_->implementation(); }
  double flops() const override { return flops_; }

 private:
  dnnl::convolution_forward::primitive_desc describe(const CpuPrepare& p, const ConvWeights& w,
                                                     std::int64_t n) const {
    const CpuValue &x = p.input(0), &y = p.output(0);
    const Desc weights(w.dims, dnnl_type(x.dtype), dnnl::memory::format_tag::any);
    const Desc bias = p.has_input(2)
                          ? Desc({y.dims[1]}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::a)
                          : Desc();
    return {dnnl_engine(),
            dnnl::prop_kind::forward_inference,
            dnnl::algorithm::convolution_direct,
            dnnl_desc(x, n),
            weights,
            bias,
            dnnl_desc(y, n),
            {op_.stride[0], op_.stride[1]},
            {op_.dilation[0] - 1, op_.dilation[1] - 1},
            {pads_[0], pads_[1]},
            {pads_[2], pads_[3]},
            dnnl_attributes(p.has_input(3), op_.activation, p.has_input(kFactor) ? y.dims[1] : 0)};
  }

  DnnlCall call(const CpuPrepare& p, const ConvWeights& w, std::int64_t n) const {
    const CpuValue &x = p.input(0), &y = p.output(0);
    const auto pd = describe(p, w, n);
    DnnlCall out{n, dnnl::convolution_forward(pd), pd.scratchpad_desc(), {}, pd.impl_info_str()};
    const auto packed =
        packed_weights(p, fmt::format("conv:{}:{}", p.node().inputs[1], w.merged), pd.weights_desc(), [&] {
          return dnnl_constant(w.merge(p.weight(1).to_f32()),
                               {w.dims, dnnl::memory::data_type::f32, w.plain_tag()});
        });
    using From = DnnlArgument::From;
    out.arguments = {{DNNL_ARG_SRC, From::kInput, 0, x.row_bytes(), dnnl_desc(x, n), nullptr},
                     {DNNL_ARG_DST, From::kOutput, 0, y.row_bytes(), dnnl_desc(y, n), nullptr},
                     {DNNL_ARG_WEIGHTS, From::kConstant, 0, 0, pd.weights_desc(), packed}};
    if (p.has_input(2)) out.arguments.push_back(bias_argument(p, 2));
    if (p.has_input(kFactor))
      for (DnnlArgument& a : affine_arguments(p, kFactor, kOffset)) out.arguments.push_back(std::move(a));
    return out;
  }

  static constexpr std::int64_t kLanes = 16;

  const Conv& op_;
  const std::array<int, 4> pads_;
  bool fill_residual_ = false;
  std::optional<DnnlRows> rows_;
  double flops_ = 0;
};

}  // namespace

CpuKernel conv_cpu() {
  return {.op = &kOpInfo<Conv>,
          .dtypes = {DType::kF32, DType::kBF16},
          .input = blocked_port,
          .output = blocked_port,
          .prepare = [](CpuPrepare& p) -> std::unique_ptr<CpuStep> {
            if (auto step = winograd_step(p)) return step;
            return std::make_unique<ConvStep>(p);
          },
          .in_place = {3}};
}

}  // namespace osprey
