// Fully connected layers of integers as oneDNN matrix products over packed weights; scales, bias, activation
// and the rounding of the result are their epilogue.
#include "ops/quantized_linear.h"

#include <optional>

#include "cpu/integer_scales.h"
#include "cpu/onednn.h"

namespace osprey {
namespace {

using Desc = dnnl::memory::desc;
using Tag = dnnl::memory::format_tag;

enum Input : std::size_t { kX, kWeight, kScale, kBias };

class QuantizedLinearStep final : public CpuStep {
 public:
  explicit QuantizedLinearStep(CpuPrepare& p) : op_(p.op<QuantizedLinear>()) {
    const std::int64_t bound = p.input(kX).dims[0];
    rows_.emplace(p, std::vector<std::int64_t>{row_capacity(bound), 256, 64, 16},
                  [&](std::int64_t n) { return call(p, n); });
    flops_ = 2.0 * static_cast<double>(bound * p.input(kX).dims[1] * p.output(0).dims[1]);
  }

  void run(CpuRun& run) override { rows_->run(run); }
  std::string detail() const override { return rows_->implementation(); }
  double flops() const override { return flops_; }

 private:
  DnnlCall call(const CpuPrepare& p, std::int64_t n) const {
    using From = DnnlArgument::From;
    constexpr int kOfColumns = 2;  // a scale for each channel of the result
    const CpuValue &x = p.input(kX), &y = p.output(0);
    const std::int64_t in = x.dims[1], outputs = y.dims[1];
    const Desc weights({in, outputs}, dnnl::memory::data_type::s8, Tag::any);
    const Desc bias = p.has_input(kBias) ? Desc({1, outputs}, dnnl::memory::data_type::f32, Tag::ab) : Desc();
    const dnnl::matmul::primitive_desc pd(dnnl_engine(), dnnl_desc(x, n), weights, bias, dnnl_desc(y, n),
                                          integer_attributes(kOfColumns, op_.to, op_.activation));
    // Packed weights of signed inputs hold a compensation, which their format's key does not tell.
    const auto packed = packed_weights(
        p, fmt::format("quantized_linear:{}:{}", p.node().inputs[kWeight], name_of(x.dtype)),
        pd.weights_desc(), [&] {
          return dnnl_constant(p.weight(kWeight), {{in, outputs}, dnnl::memory::data_type::s8, Tag::ba});
        });
    DnnlCall out{n, dnnl::matmul(pd), pd.scratchpad_desc(), {}, pd.impl_info_str()};
    out.arguments = {{DNNL_ARG_SRC, From::kInput, kX, x.row_bytes(), dnnl_desc(x, n), nullptr},
                     {DNNL_ARG_DST, From::kOutput, 0, y.row_bytes(), dnnl_desc(y, n), nullptr},
                     {DNNL_ARG_WEIGHTS, From::kConstant, 0, 0, pd.weights_desc(), packed},
                     weight_scales(p, kScale, op_.x_scale)};
    if (p.has_input(kBias)) out.arguments.push_back(bias_argument(p, kBias, 2));
    if (is_integer(op_.to)) out.arguments.push_back(result_scale(p, op_.y_scale));
    return out;
  }

  const QuantizedLinear& op_;
  std::optional<DnnlRows> rows_;
  double flops_ = 0;
};

}  // namespace

CpuKernel quantized_linear_cpu() {
  return {.op = &kOpInfo<QuantizedLinear>,
          .dtypes = {DType::kI8, DType::kU8},
          .prepare = [](CpuPrepare& p) -> std::unique_ptr<CpuStep> {
            require(p.op<QuantizedLinear>().to != StoredType::kF16, "{}: the CPU does not compute in f16",
                    p.node().name);
            return std::make_unique<QuantizedLinearStep>(p);
          }};
}

}  // namespace osprey
