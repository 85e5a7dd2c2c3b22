// Fully connected layers of integers as convolutions of maps of one pixel, a map a row: the kernels are those
// of quantized_conv.cpp.
#include "ops/quantized_linear.h"

#include "cuda/kernel.h"
#include "ops/flatten.h"

namespace osprey {

CudaKernel quantized_conv_cuda();

namespace {

enum Input : std::size_t { kX, kWeight };

CudaValue as_maps(CudaValue rows) {
  rows.dims = {rows.dims[0], rows.dims[1], 1, 1};
  return rows;
}

// [O, C*H*W] for rows that lie H, W, C.
Tensor channels_last_columns(const Tensor& weight, const TensorType& maps) {
  const std::int64_t channels = maps.dims[1].constant(),
                     pixels = maps.dims[2].constant() * maps.dims[3].constant();
  Tensor out = Tensor::zeros(DType::kI8, weight.shape());
  const auto from = weight.values<std::int8_t>();
  const auto to = out.mutable_values<std::int8_t>();
  for (std::int64_t row = 0; row < weight.size(); row += channels * pixels)
    for (std::int64_t c = 0; c < channels; ++c)
      for (std::int64_t p = 0; p < pixels; ++p)
        to[static_cast<std::size_t>(row + p * channels + c)] =
            from[static_cast<std::size_t>(row + c * pixels + p)];
  return out;
}

// The layer as the convolution's kernel sees it.
class AsConvolution final : public CudaPrepare {
 public:
  explicit AsConvolution(CudaPrepare& layer)
      : layer_(layer), node_(layer.node()), x_(as_maps(layer.input(kX))), y_(as_maps(layer.output(0))) {
    const auto& op = layer.op<QuantizedLinear>();
    node_.op = Op(QuantizedConv{
        .activation = op.activation, .to = op.to, .x_scale = op.x_scale, .y_scale = op.y_scale});
    weight_ = layer.input(kWeight);
    weight_.dims = {weight_.dims[0], weight_.dims[1], 1, 1};
    const ValueId rows = node_.inputs[kX];
    if (flattened_channels_last(graph(), rows))
      maps_ = &graph().value(graph().producer(rows)->inputs[0]).type;
  }

  const Graph& graph() const override { return layer_.graph(); }
  const Node& node() const override { return node_; }
  bool has_input(std::size_t i) const override { return layer_.has_input(i); }
  const CudaValue& input(std::size_t i) const override {
    return i == kX ? x_ : i == kWeight ? weight_ : layer_.input(i);
  }
  const CudaValue& output(std::size_t) const override { return y_; }
  const CudaPhotos& photos() const override { return layer_.photos(); }
  Tensor weight(std::size_t i) const override {
    Tensor given = layer_.weight(i);
    if (i != kWeight) return given;
    const Tensor rows = maps_ ? channels_last_columns(given, *maps_) : given;
    return rows.reshaped({rows.dim(0), rows.dim(1), 1, 1});
  }
  std::shared_ptr<const DeviceBuffer> shared(const std::string& key,
                                             const std::function<DeviceBuffer()>& make) const override {
    const std::string order = maps_ ? fmt::format("{} channels last ", maps_->dims[1].constant()) : "";
    return layer_.shared(fmt::format("{}rows {}", order, key), make);
  }
  bool in_place(std::size_t i) const override { return layer_.in_place(i); }
  void request_scratch(std::size_t bytes) override { layer_.request_scratch(bytes); }
  bool tf32() const override { return layer_.tf32(); }
  const CudaDevice& device() const override { return layer_.device(); }
  CudaTuner& tuner() const override { return layer_.tuner(); }
  cudaStream_t stream() const override { return layer_.stream(); }

 private:
  CudaPrepare& layer_;
  Node node_;
  CudaValue x_, weight_, y_;
  const TensorType* maps_ = nullptr;  // that the rows were flattened from and lie as; null: in C order
};

}  // namespace

CudaKernel quantized_linear_cuda() {
  return {.op = &kOpInfo<QuantizedLinear>,
          .dtypes = {DType::kI8, DType::kU8},
          .prepare = [](CudaPrepare& p) -> std::unique_ptr<CudaStep> {
            AsConvolution convolution(p);
            return quantized_conv_cuda().prepare(convolution);
          }};
}

}  // namespace osprey
