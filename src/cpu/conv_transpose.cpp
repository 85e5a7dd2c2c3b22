// Transposed convolution: with windows that do not overlap a convolution of all taps (cpu/taps.h). Others go
// to oneDNN's deconvolution.
#include "ops/conv_transpose.h"

#include <optional>
#include <span>

#include "cpu/floats.h"
#include "cpu/onednn.h"
#include "cpu/taps.h"

namespace osprey {
namespace {

using Desc = dnnl::memory::desc;
using Tag = dnnl::memory::format_tag;
using From = DnnlArgument::From;

const std::vector<std::int64_t> kRowSizes{32, 8, 2};

std::size_t aligned(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

// [C,O,kh,kw] as [kh*kw*O, C, 1, 1], the order of the taps' channels.
Tensor tap_weights(const Tensor& given) {
  const Tensor plain = given.to_f32();
  const std::int64_t c = plain.dim(0), o = plain.dim(1), taps = plain.dim(2) * plain.dim(3);
  Tensor out = Tensor::zeros(DType::kF32, {taps * o, c, 1, 1});
  const auto from = plain.values<float>();
  const auto to = out.mutable_values<float>();
  for (std::int64_t i = 0; i < c; ++i)
    for (std::int64_t k = 0; k < o; ++k)
      for (std::int64_t t = 0; t < taps; ++t)
        to[static_cast<std::size_t>((t * o + k) * c + i)] =
            from[static_cast<std::size_t>((i * o + k) * taps + t)];
  return out;
}

class TapsStep final : public CpuStep {
 public:
  explicit TapsStep(CpuPrepare& p) : op_(p.op<ConvTranspose>()), taps_(p.output(0)) {
    const CpuValue &x = p.input(0), &y = p.output(0);
    taps_.dims = {1, op_.stride[0] * op_.stride[1] * y.dims[1], x.dims[2], x.dims[3]};
    rows_.emplace(p, kRowSizes, [&](std::int64_t n) { return call(p, n); });
    flops_ = 2.0 * static_cast<double>(x.dims[0] * x.dims[1]) *
             static_cast<double>(taps_.dims[1] * x.dims[2] * x.dims[3]);
  }

  void run(CpuRun& run) override {
    rows_->run(run, [&](std::int64_t row, std::int64_t rows) { place(run, row, rows); });
  }
  std::string detail() const override { return rows_->implementation() + " + pixels"; }
  double flops() const override { return flops_; }

 private:
  DnnlCall call(const CpuPrepare& p, std::int64_t n) {
    const CpuValue& x = p.input(0);
    const bool bias = p.has_input(2);
    const std::int64_t channels = taps_.dims[1];
    const Desc weights({channels, x.dims[1], 1, 1}, dnnl_type(x.dtype), Tag::any);
    const Desc bias_desc = bias ? Desc({channels}, dnnl::memory::data_type::f32, Tag::a) : Desc();
    const dnnl::convolution_forward::primitive_desc pd(
        dnnl_engine(), dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct,
        dnnl_desc(x, n), weights, bias_desc, dnnl_desc(taps_, n), {1, 1}, {0, 0}, {0, 0},
        dnnl_attributes(false, op_.activation));
    DnnlCall out{n, dnnl::convolution_forward(pd), pd.scratchpad_desc(), {}, pd.impl_info_str()};
    out.scratchpad_offset = aligned(dnnl_desc(taps_, n).get_size());  // behind the taps
    const auto packed = packed_weights(p, fmt::format("taps:{}", p.node().inputs[1]), pd.weights_desc(), [&] {
      return dnnl_constant(tap_weights(p.weight(1)),
                           {{channels, x.dims[1], 1, 1}, dnnl::memory::data_type::f32, Tag::abcd});
    });
    out.arguments = {{DNNL_ARG_SRC, From::kInput, 0, x.row_bytes(), dnnl_desc(x, n), nullptr},
                     {DNNL_ARG_DST, From::kScratch, 0, 0, dnnl_desc(taps_, n), nullptr},
                     {DNNL_ARG_WEIGHTS, From::kConstant, 0, 0, pd.weights_desc(), packed}};
    if (bias) {
      const Tensor repeated = repeated_for_taps(p.weight(2), channels / p.output(0).dims[1]);
      out.arguments.push_back({DNNL_ARG_BIAS, From::kConstant, 0, 0, bias_desc,
                               std::make_shared<DnnlConstant>(dnnl_constant(repeated, bias_desc))});
    }
    return out;
  }

  void place(CpuRun& run, std::int64_t row, std::int64_t rows) const {
    CpuValue taps = taps_;
    taps.dims[0] = rows;
    taps.data = run.scratch().data();
    place_taps(run, taps, op_.stride[0], op_.stride[1], row);
  }

  const ConvTranspose& op_;
  CpuValue taps_;  // one row of them
  std::optional<DnnlRows> rows_;
  double flops_ = 0;
};

// oneDNN 3.2's brgemm deconvolution adds the bias once for every part of a strided window, so it goes
// without: bias and activation are applied behind it.
class DeconvolutionStep final : public CpuStep {
 public:
  explicit DeconvolutionStep(CpuPrepare& p) : op_(p.op<ConvTranspose>()) {
    if (p.has_input(2)) bias_ = p.weight(2).to_f32();
    rows_.emplace(p, kRowSizes, [&](std::int64_t n) { return call(p, n); });
    const Shape& x = p.input(0).dims;
    const TensorType& w = p.input_type(1);
    flops_ = 2.0 * static_cast<double>(x[0] * x[1] * x[2] * x[3]) *
             static_cast<double>(w.dims[1].constant() * w.dims[2].constant() * w.dims[3].constant());
  }

  void run(CpuRun& run) override {
    rows_->run(run);
    if (!bias_.empty() || op_.activation != Activation::kNone)
      with_float(run.out(0).dtype, [&]<class T>() { finish<T>(run); });
  }
  std::string detail() const override { return rows_->implementation(); }
  double flops() const override { return flops_; }

 private:
  template <class T>
  void finish(CpuRun& run) const {
    const CpuValue& out = run.out(0);
    const CpuPlanes planes(out);
    const std::span<const float> bias = bias_.empty() ? std::span<const float>() : bias_.values<float>();
    auto* y = reinterpret_cast<T*>(out.data);
    cpu_for(planes.count, run.threads(), [&](std::int64_t plane) {
      const std::int64_t first = plane % planes.per_image * planes.lanes, live = planes.live_lanes(plane);
      T* pixel = y + plane * planes.plane_size();
      for (std::int64_t i = 0; i < planes.height * planes.width; ++i, pixel += planes.lanes)
        for (std::int64_t k = 0; k < live; ++k) {
          const float shift = bias.empty() ? 0.f : bias[static_cast<std::size_t>(first + k)];
          pixel[k] = store_float<T>(activated(op_.activation, load_float(pixel[k]) + shift));
        }
    });
  }

  DnnlCall call(const CpuPrepare& p, std::int64_t n) const {
    const CpuValue &x = p.input(0), &y = p.output(0);
    const TensorType& type = p.input_type(1);
    const std::int64_t c = type.dims[0].constant(), o = type.dims[1].constant(), kh = type.dims[2].constant(),
                       kw = type.dims[3].constant();
    const Desc weights({o, c, kh, kw}, dnnl_type(x.dtype), Tag::any);
    const dnnl::deconvolution_forward::primitive_desc pd(
        dnnl_engine(), dnnl::prop_kind::forward_inference, dnnl::algorithm::deconvolution_direct,
        dnnl_desc(x, n), weights, dnnl_desc(y, n), {op_.stride[0], op_.stride[1]}, {op_.pads[0], op_.pads[1]},
        {op_.pads[2], op_.pads[3]}, dnnl_attributes(false, Activation::kNone));
    DnnlCall out{n, dnnl::deconvolution_forward(pd), pd.scratchpad_desc(), {}, pd.impl_info_str()};
    const auto packed =
        packed_weights(p, fmt::format("deconv:{}", p.node().inputs[1]), pd.weights_desc(), [&] {
          return dnnl_constant(p.weight(1).to_f32(),
                               {{o, c, kh, kw}, dnnl::memory::data_type::f32, Tag::bacd});
        });
    out.arguments = {{DNNL_ARG_SRC, From::kInput, 0, x.row_bytes(), dnnl_desc(x, n), nullptr},
                     {DNNL_ARG_DST, From::kOutput, 0, y.row_bytes(), dnnl_desc(y, n), nullptr},
                     {DNNL_ARG_WEIGHTS, From::kConstant, 0, 0, pd.weights_desc(), packed}};
    return out;
  }

  const ConvTranspose& op_;
  Tensor bias_;  // f32; empty without
  std::optional<DnnlRows> rows_;
  double flops_ = 0;
};

bool apart(const ConvTranspose& op, const TensorType& weight) {
  return op.pads == std::vector<int>{0, 0, 0, 0} && weight.dims[2].constant() == op.stride[0] &&
         weight.dims[3].constant() == op.stride[1];
}

}  // namespace

CpuKernel conv_transpose_cpu() {
  return {.op = &kOpInfo<ConvTranspose>,
          .dtypes = {DType::kF32, DType::kBF16},
          .input = blocked_port,
          .output = blocked_port,
          .prepare = [](CpuPrepare& p) -> std::unique_ptr<CpuStep> {
            if (apart(p.op<ConvTranspose>(), p.input_type(1))) return std::make_unique<TapsStep>(p);
            return std::make_unique<DeconvolutionStep>(p);
          }};
}

}  // namespace osprey
