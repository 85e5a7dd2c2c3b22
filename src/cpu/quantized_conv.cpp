// Convolution of integers through oneDNN: scales, bias, residual, activation and the rounding of the result
// are its epilogue. The residual is summed where the result goes, as in conv.cpp.
#include "ops/quantized_conv.h"

#include <optional>

#include "cpu/conv_weights.h"
#include "cpu/integer_scales.h"
#include "cpu/onednn.h"
#include "cpu/planes.h"

namespace osprey {
namespace {

using Desc = dnnl::memory::desc;
using From = DnnlArgument::From;

enum Input : std::size_t { kX, kWeight, kScale, kBias, kResidual };

// Rows that primitives over regions of interest are made for.
const std::vector<std::int64_t> kRowSizes{32, 8, 2};

constexpr std::int64_t kLanes = 16;

std::array<int, 4> pads_of(const CpuPrepare& p) {
  const auto& weight = p.input_type(kWeight).dims;
  const Shape& x = p.input(kX).dims;
  return p.op<QuantizedConv>().window(weight[2].constant(), weight[3].constant()).pads_of(x[2], x[3]);
}

class QuantizedConvStep final : public CpuStep {
 public:
  explicit QuantizedConvStep(CpuPrepare& p) : op_(p.op<QuantizedConv>()), pads_(pads_of(p)) {
    fill_residual_ = p.has_input(kResidual) && !p.in_place(kResidual);
    const ConvWeights w(p.input_type(kWeight), op_.groups, kLanes);
    rows_.emplace(p, kRowSizes, [&](std::int64_t n) { return call(p, w, n); });
    const Shape& y = p.output(0).dims;
    flops_ = w.flops_a_pixel * static_cast<double>(y[0] * y[2] * y[3]);
  }

  void run(CpuRun& run) override {
    if (fill_residual_)
      upsample_nearest(run.in(kResidual), run.out(0), op_.residual_upsampling, run.threads());
    rows_->run(run);
  }
  std::string detail() const override { return rows_->implementation(); }
  double flops() const override { return flops_; }

 private:
  dnnl::primitive_attr attributes(const CpuPrepare& p, const ConvWeights& w) const {
    dnnl::primitive_attr out;
    out.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    out.set_scales_mask(DNNL_ARG_WEIGHTS, w.groups == 1 ? 1 : 3);  // a scale for each channel of the result
    if (is_integer(op_.to)) out.set_scales_mask(DNNL_ARG_DST, 0);
    dnnl::post_ops ops;
    if (p.has_input(kResidual))
      ops.append_sum(is_integer(op_.to) ? op_.residual_scale : 1, 0, dnnl_type(p.input(kResidual).dtype));
    append_activation(ops, op_.activation);
    out.set_post_ops(ops);
    return out;
  }

  dnnl::convolution_forward::primitive_desc describe(const CpuPrepare& p, const ConvWeights& w,
                                                     std::int64_t n) const {
    const CpuValue& y = p.output(0);
    const Desc weights(w.dims, dnnl::memory::data_type::s8, dnnl::memory::format_tag::any);
    const Desc bias = p.has_input(kBias)
                          ? Desc({y.dims[1]}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::a)
                          : Desc();
    return {dnnl_engine(),
            dnnl::prop_kind::forward_inference,
            dnnl::algorithm::convolution_direct,
            dnnl_desc(p.input(kX), n),
            weights,
            bias,
            dnnl_desc(y, n),
            {op_.stride[0], op_.stride[1]},
            {op_.dilation[0] - 1, op_.dilation[1] - 1},
            {pads_[0], pads_[1]},
            {pads_[2], pads_[3]},
            attributes(p, w)};
  }

  DnnlArgument weight_argument(const CpuPrepare& p, const ConvWeights& w, const Desc& wanted) const {
    // Packed weights of signed inputs hold a compensation, which their format's key does not tell.
    const auto packed =
        packed_weights(p,
                       fmt::format("quantized_conv:{}:{}:{}", p.node().inputs[kWeight], w.merged,
                                   name_of(p.input(kX).dtype)),
                       wanted, [&] {
                         return dnnl_constant(w.merge(p.weight(kWeight)),
                                              {w.dims, dnnl::memory::data_type::s8, w.plain_tag()});
                       });
    return {DNNL_ARG_WEIGHTS, From::kConstant, 0, 0, wanted, packed};
  }

  DnnlCall call(const CpuPrepare& p, const ConvWeights& w, std::int64_t n) const {
    const CpuValue &x = p.input(kX), &y = p.output(0);
    const auto pd = describe(p, w, n);
    DnnlCall out{n, dnnl::convolution_forward(pd), pd.scratchpad_desc(), {}, pd.impl_info_str()};
    out.arguments = {{DNNL_ARG_SRC, From::kInput, kX, x.row_bytes(), dnnl_desc(x, n), nullptr},
                     {DNNL_ARG_DST, From::kOutput, 0, y.row_bytes(), dnnl_desc(y, n), nullptr},
                     weight_argument(p, w, pd.weights_desc()),
                     weight_scales(p, kScale, op_.x_scale)};
    if (p.has_input(kBias)) out.arguments.push_back(bias_argument(p, kBias));
    if (is_integer(op_.to)) out.arguments.push_back(result_scale(p, op_.y_scale));
    return out;
  }

  const QuantizedConv& op_;
  const std::array<int, 4> pads_;
  bool fill_residual_ = false;
  std::optional<DnnlRows> rows_;
  double flops_ = 0;
};

}  // namespace

CpuKernel quantized_conv_cpu() {
  return {.op = &kOpInfo<QuantizedConv>,
          .dtypes = {DType::kI8, DType::kU8},
          .input = blocked_port,
          .output = blocked_port,
          .prepare = [](CpuPrepare& p) -> std::unique_ptr<CpuStep> {
            require(p.op<QuantizedConv>().to != StoredType::kF16, "{}: the CPU does not compute in f16",
                    p.node().name);
            return std::make_unique<QuantizedConvStep>(p);
          },
          .in_place = {kResidual}};
}

}  // namespace osprey
