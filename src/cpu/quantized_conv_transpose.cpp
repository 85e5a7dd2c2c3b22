// As a convolution of all taps (cpu/taps.h), whose epilogue is scales, bias, activation and the rounding of
// the result.
#include "ops/quantized_conv_transpose.h"

#include <optional>

#include "cpu/integer_scales.h"
#include "cpu/onednn.h"
#include "cpu/taps.h"

namespace osprey {
namespace {

using Desc = dnnl::memory::desc;
using Tag = dnnl::memory::format_tag;

enum Input : std::size_t { kX, kWeight, kScale, kBias };

// Rows that primitives over regions of interest are made for.
const std::vector<std::int64_t> kRowSizes{32, 8, 2};

std::size_t aligned(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

// [O,C,kh,kw] as [kh*kw*O, C, 1, 1], the order of the taps' channels.
Tensor tap_weights(const Tensor& given) {
  const std::int64_t outputs = given.dim(0), channels = given.dim(1), taps = given.dim(2) * given.dim(3);
  Tensor out = Tensor::zeros(DType::kI8, {taps * outputs, channels, 1, 1});
  const auto from = given.values<std::int8_t>();
  const auto to = out.mutable_values<std::int8_t>();
  for (std::int64_t o = 0; o < outputs; ++o)
    for (std::int64_t c = 0; c < channels; ++c)
      for (std::int64_t t = 0; t < taps; ++t)
        to[static_cast<std::size_t>((t * outputs + o) * channels + c)] =
            from[static_cast<std::size_t>((o * channels + c) * taps + t)];
  return out;
}

class QuantizedTapsStep final : public CpuStep {
 public:
  explicit QuantizedTapsStep(CpuPrepare& p)
      : op_(p.op<QuantizedConvTranspose>()),
        height_(p.input_type(kWeight).dims[2].constant()),
        width_(p.input_type(kWeight).dims[3].constant()),
        made_(p.output(0)) {
    const CpuValue& x = p.input(kX);
    made_.dims = {1, taps() * p.output(0).dims[1], x.dims[2], x.dims[3]};
    rows_.emplace(p, kRowSizes, [&](std::int64_t n) { return call(p, n); });
    flops_ = 2.0 * static_cast<double>(x.dims[0] * x.dims[1]) *
             static_cast<double>(made_.dims[1] * x.dims[2] * x.dims[3]);
  }

  void run(CpuRun& run) override {
    rows_->run(run, [&](std::int64_t row, std::int64_t rows) {
      CpuValue made = made_;
      made.dims[0] = rows;
      made.data = run.scratch().data();
      place_taps(run, made, height_, width_, row);
    });
  }
  std::string detail() const override { return rows_->implementation() + " + pixels"; }
  double flops() const override { return flops_; }

 private:
  std::int64_t taps() const { return height_ * width_; }

  DnnlCall call(const CpuPrepare& p, std::int64_t n) const {
    using From = DnnlArgument::From;
    constexpr int kOfOutputs = 1;  // a scale for each channel of the taps
    const CpuValue& x = p.input(kX);
    const std::int64_t channels = made_.dims[1];
    const Desc weights({channels, x.dims[1], 1, 1}, dnnl::memory::data_type::s8, Tag::any);
    const Desc bias = p.has_input(kBias) ? Desc({channels}, dnnl::memory::data_type::f32, Tag::a) : Desc();
    const dnnl::convolution_forward::primitive_desc pd(
        dnnl_engine(), dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct,
        dnnl_desc(x, n), weights, bias, dnnl_desc(made_, n), {1, 1}, {0, 0}, {0, 0},
        integer_attributes(kOfOutputs, op_.to, op_.activation));
    // Packed weights of signed inputs hold a compensation, which their format's key does not tell.
    const auto packed = packed_weights(
        p, fmt::format("quantized_taps:{}:{}", p.node().inputs[kWeight], name_of(x.dtype)), pd.weights_desc(),
        [&] {
          return dnnl_constant(tap_weights(p.weight(kWeight)),
                               {{channels, x.dims[1], 1, 1}, dnnl::memory::data_type::s8, Tag::abcd});
        });
    DnnlCall out{n, dnnl::convolution_forward(pd), pd.scratchpad_desc(), {}, pd.impl_info_str()};
    out.scratchpad_offset = aligned(dnnl_desc(made_, n).get_size());  // behind the taps
    out.arguments = {{DNNL_ARG_SRC, From::kInput, kX, x.row_bytes(), dnnl_desc(x, n), nullptr},
                     {DNNL_ARG_DST, From::kScratch, 0, 0, dnnl_desc(made_, n), nullptr},
                     {DNNL_ARG_WEIGHTS, From::kConstant, 0, 0, pd.weights_desc(), packed},
                     weight_scales(p, kScale, op_.x_scale, taps())};
    if (p.has_input(kBias)) {
      const Tensor repeated = repeated_for_taps(p.weight(kBias), taps());
      out.arguments.push_back({DNNL_ARG_BIAS, From::kConstant, 0, 0, bias,
                               std::make_shared<DnnlConstant>(dnnl_constant(repeated, bias))});
    }
    if (is_integer(op_.to)) out.arguments.push_back(result_scale(p, op_.y_scale));
    return out;
  }

  const QuantizedConvTranspose& op_;
  const std::int64_t height_, width_;  // of a window
  CpuValue made_;                      // one row of the taps
  std::optional<DnnlRows> rows_;
  double flops_ = 0;
};

}  // namespace

CpuKernel quantized_conv_transpose_cpu() {
  return {.op = &kOpInfo<QuantizedConvTranspose>,
          .dtypes = {DType::kI8, DType::kU8},
          .input = blocked_port,
          .output = blocked_port,
          .prepare = [](CpuPrepare& p) -> std::unique_ptr<CpuStep> {
            require(p.op<QuantizedConvTranspose>().to != StoredType::kF16,
                    "{}: the CPU does not compute in f16", p.node().name);
            return std::make_unique<QuantizedTapsStep>(p);
          }};
}

}  // namespace osprey
