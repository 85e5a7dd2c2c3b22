// Fully connected layers as oneDNN matrix products over packed weights.
#include "ops/linear.h"

#include <optional>

#include "cpu/onednn.h"

namespace osprey {
namespace {

using Desc = dnnl::memory::desc;
using Tag = dnnl::memory::format_tag;

class LinearStep final : public CpuStep {
 public:
  explicit LinearStep(CpuPrepare& p) : op_(p.op<Linear>()) {
    const std::int64_t bound = p.input(0).dims[0];
    rows_.emplace(p, std::vector<std::int64_t>{row_capacity(bound), 256, 64, 16},
                  [&](std::int64_t n) { return call(p, n); });
    flops_ = 2.0 * static_cast<double>(bound * p.input(0).dims[1] * p.output(0).dims[1]);
  }

  void run(CpuRun& run) override { rows_->run(run); }
  std::string detail() const override { return rows_->implementation(); }
  double flops() const override { return flops_; }

 private:
  DnnlCall call(const CpuPrepare& p, std::int64_t n) const {
    const CpuValue &x = p.input(0), &y = p.output(0);
    const std::int64_t in = x.dims[1], out_channels = y.dims[1];
    const bool bias = p.has_input(2);
    const Desc weights({in, out_channels}, dnnl_type(x.dtype), Tag::any);
    const Desc bias_desc = bias ? Desc({1, out_channels}, dnnl::memory::data_type::f32, Tag::ab) : Desc();
    const dnnl::matmul::primitive_desc pd(dnnl_engine(), dnnl_desc(x, n), weights, bias_desc, dnnl_desc(y, n),
                                          dnnl_attributes(false, op_.activation));
    DnnlCall out{n, dnnl::matmul(pd), pd.scratchpad_desc(), {}, pd.impl_info_str()};
    const auto packed =
        packed_weights(p, fmt::format("linear:{}", p.node().inputs[1]), pd.weights_desc(), [&] {
          return dnnl_constant(p.weight(1).to_f32(),
                               {{in, out_channels}, dnnl::memory::data_type::f32, Tag::ba});
        });
    using From = DnnlArgument::From;
    out.arguments = {{DNNL_ARG_SRC, From::kInput, 0, x.row_bytes(), dnnl_desc(x, n), nullptr},
                     {DNNL_ARG_DST, From::kOutput, 0, y.row_bytes(), dnnl_desc(y, n), nullptr},
                     {DNNL_ARG_WEIGHTS, From::kConstant, 0, 0, pd.weights_desc(), packed}};
    if (bias) out.arguments.push_back(bias_argument(p, 2, 2));
    return out;
  }

  const Linear& op_;
  std::optional<DnnlRows> rows_;
  double flops_ = 0;
};

}  // namespace

CpuKernel linear_cpu() {
  return {
      .op = &kOpInfo<Linear>,
      .dtypes = {DType::kF32, DType::kBF16},
      .prepare = [](CpuPrepare& p) -> std::unique_ptr<CpuStep> { return std::make_unique<LinearStep>(p); }};
}

}  // namespace osprey
