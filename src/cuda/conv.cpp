// Convolutions through cuDNN, and where that is faster through cuBLASLt: 1x1 ones, and those of small maps,
// whose windows are laid side by side first. What a library does not fuse (a coarser residual, an activation
// in exact f32) our own kernel adds where the result lies.
#include "ops/conv.h"

#include "cuda/conv_group_step.h"
#include "cuda/cudnn.h"
#include "cuda/depthwise_conv.h"
#include "cuda/gemm.h"
#include "cuda/im2col.h"
#include "cuda/matrix_kernels.h"
#include "cuda/packed_weights.h"
#include "cuda/stem_conv.h"

namespace osprey {
namespace {

// What happens to a convolution's sums before they are first stored.
struct Fused {
  bool bias = false, residual = false, activation = false;
};

std::array<std::int64_t, 4> dims4(const Shape& dims) { return {dims[0], dims[1], dims[2], dims[3]}; }

// Of the photos' maps, as many equal parts as there are photos, `parts`.
CudnnConv cudnn_conv(const CudaPrepare& p, const Fused& fused, std::int64_t parts) {
  const Conv& op = p.op<Conv>();
  const CudaValue &x = p.input(0), &y = p.output(0);
  const Shape& weight = p.input(1).dims;
  const auto pads = op.window(weight[2], weight[3]).pads_of(x.dims[2], x.dims[3]);
  const auto part = [&](const Shape& dims) {
    std::array<std::int64_t, 4> out = dims4(dims);
    out[0] /= parts;
    return out;
  };
  return {.type = x.dtype,
          .out_type = y.dtype,
          .x = part(x.dims),
          .weight = dims4(weight),
          .y = part(y.dims),
          .stride = {op.stride[0], op.stride[1]},
          .dilation = {op.dilation[0], op.dilation[1]},
          .pads_before = {pads[0], pads[1]},
          .pads_after = {pads[2], pads[3]},
          .bias = fused.bias,
          .residual = fused.residual,
          .tf32 = p.tf32(),
          .activation = fused.activation ? op.activation : Activation::kNone};
}

bool is_product(const CudaPrepare& p) {
  const Conv& op = p.op<Conv>();
  const Shape& weight = p.input(1).dims;
  return weight[2] == 1 && weight[3] == 1 && op.groups == 1 && op.stride == std::vector<int>{1, 1} &&
         (op.padding == Padding::kSame || op.pads == std::vector<int>{0, 0, 0, 0});
}

// As a product of the pixels' windows.
Gemm product(const CudaPrepare& p, const Fused& fused, std::int64_t parts) {
  const Shape &weight = p.input(1).dims, &y = p.output(0).dims;
  const DType out_type = p.output(0).dtype;
  return {.rows = y[0] / parts * y[2] * y[3],
          .inputs = weight[1] * weight[2] * weight[3],
          .outputs = y[1],
          .type = p.input(0).dtype,
          .out_type = out_type,
          .residual = fused.residual,
          .tf32 = p.tf32(),
          .activation = fused.activation ? p.op<Conv>().activation : Activation::kNone,
          .bias = fused.bias ? packed_vector(p, 2, out_type) : nullptr};
}

// On maps so small that cuDNN's tiles, which are of outputs alone, leave most of the device idle.
bool may_lay_out_windows(const CudaPrepare& p) {
  constexpr std::int64_t kMostWindows = 1200, kLeastInputs = 1024;  // windows: of a photo
  const DType type = p.input(0).dtype;
  const Shape &weight = p.input(1).dims, &y = p.output(0).dims;
  return (type == DType::kF16 || type == DType::kBF16) && p.op<Conv>().groups == 1 && weight[1] % 8 == 0 &&
         weight[2] * weight[3] > 1 && weight[1] * weight[2] * weight[3] >= kLeastInputs &&
         y[0] / photos_of(p) * y[2] * y[3] <= kMostWindows;
}

constexpr std::size_t kMostProductsOfWindows = 8, kMostConvsOfProducts = 3;  // that are measured

class WindowsCall final : public MatrixCall {
 public:
  WindowsCall(const CudnnConv& conv, std::unique_ptr<MatrixCall> product)
      : type_(conv.type),
        windows_{.images = conv.x[0],
                 .height = conv.x[2],
                 .width = conv.x[3],
                 .channels = conv.x[1],
                 .out_height = conv.y[2],
                 .out_width = conv.y[3],
                 .kernel = {conv.weight[2], conv.weight[3]},
                 .stride = conv.stride,
                 .dilation = conv.dilation,
                 .pads_before = conv.pads_before},
        product_(std::move(product)) {}

  void run(const MatrixOperands& o, std::byte* workspace, cudaStream_t stream) const override {
    launch_im2col(windows_, type_, o.x, workspace, stream);
    MatrixOperands operands = o;
    operands.x = workspace;
    product_->run(operands, workspace + bytes(), stream);
  }
  std::size_t workspace() const override { return bytes() + product_->workspace(); }
  std::string name() const override { return kPrefix + product_->name(); }

  static constexpr const char* kPrefix = "windows, ";

 private:
  std::size_t bytes() const {
    return (static_cast<std::size_t>(windows_.rows() * windows_.columns()) * size_of(type_) + 255) / 256 *
           256;
  }

  DType type_;
  Im2col windows_;
  std::unique_ptr<MatrixCall> product_;
};

class ConvStep final : public CudaStep {
 public:
  explicit ConvStep(CudaPrepare& p) : op_(p.op<Conv>()), residual_(p.has_input(3)) {
    const Shape &w = p.input(1).dims, &y = p.output(0).dims;
    flops_ = 2.0 * static_cast<double>(w[1] * w[2] * w[3]) * static_cast<double>(element_count(y));
    const DType type = p.input(0).dtype;
    weight_ = packed_weight(p, 1, fmt::format("channels last {}", name_of(type)), [&](const Tensor& f32) {
      return as_type(permuted(f32, {0, 2, 3, 1}), type);
    });
    if (p.has_input(2)) bias_ = packed_vector(p, 2, DType::kF32);
    find_call(p);
    p.request_scratch(call_->workspace());
  }

  void launch(CudaRun& run) override {
    const CudaValue& y = run.out(0);
    const void* residual = residual_ ? run.in(3).data : nullptr;
    call_->run({.x = run.in(0).data,
                .weight = weight_->data(),
                .bias = fused_.bias ? bias_->data() : nullptr,
                .residual = fused_.residual ? residual : nullptr,
                .y = y.data},
               run.scratch(), run.stream());
    if (!needs_epilogue()) return;
    launch_epilogue({.rows = y.dims[0],
                     .height = y.dims[2],
                     .width = y.dims[3],
                     .channels = y.dims[1],
                     .scale = op_.residual_scale,
                     .activation = fused_.activation ? Activation::kNone : op_.activation},
                    y.dtype, y.data, bias_ && !fused_.bias ? bias_->as<float>() : nullptr,
                    fused_.residual ? nullptr : residual, run.stream());
  }

  std::string detail() const override { return call_->name() + (needs_epilogue() ? " + epilogue" : ""); }
  double flops() const override { return flops_; }

 private:
  bool needs_epilogue() const {
    return (bias_ && !fused_.bias) || (residual_ && !fused_.residual) ||
           (op_.activation != Activation::kNone && !fused_.activation);
  }

  // The more is fused the better, but no library fuses everything in every type, and none enlarges a
  // residual. In exact f32, cuDNN's good kernels know only bias and ReLU.
  void find_call(CudaPrepare& p) {
    const bool bias = bias_ != nullptr, is_gemm = is_product(p);
    const bool exact = p.input(0).dtype == DType::kF32 && !p.tf32();
    const bool all = !(residual_ && op_.residual_scale != 1) &&
                     (!exact || is_gemm || (!residual_ && bias && op_.activation == Activation::kRelu));
    std::vector<Fused> ways{{bias, false, false}, {}};
    if (all) ways.insert(ways.begin(), {bias, residual_, true});
    for (const Fused& fused : ways) {
      fused_ = fused;
      if ((call_ = fastest(p))) return;
    }
    fail(ErrorCode::kDevice, "{}: cuDNN has nothing for {}", p.node().name, cudnn_conv(p, {}, 1).key());
  }

  std::unique_ptr<MatrixCall> fastest(CudaPrepare& p) const {
    const std::int64_t photos = photos_of(p);
    MatrixSearch all = search(p, 1);
    all.photos = photos;
    all.alone = [&] { return search(p, photos); };
    all.together = [photos](const MatrixCall& one) { return gemm_for_photos(one, photos); };
    if (photos > 1) all.key += fmt::format(" for {} photos", photos);
    return fastest_call(p, all);
  }

  // For one of `parts` equal parts of the maps.
  MatrixSearch search(const CudaPrepare& p, std::int64_t parts) const {
    const CudnnConv conv = cudnn_conv(p, fused_, parts);
    return {.key = conv.key(),
            .ways = [this, &p, conv, parts] { return implementations(p, conv, parts); },
            .restore = [this, &p, conv, parts](const TunedChoice& c) { return restored(p, conv, parts, c); },
            .type = conv.type,
            .out_type = conv.out_type,
            .x_count = element_count(p.input(0).dims) / parts,
            .y_count = element_count(p.output(0).dims) / parts,
            .constants = {.weight = weight_->data(), .bias = conv.bias ? bias_->data() : nullptr},
            .residual = conv.residual};
  }

  std::unique_ptr<MatrixCall> restored(const CudaPrepare& p, const CudnnConv& conv, std::int64_t parts,
                                       const TunedChoice& choice) const {
    if (!choice.saved.empty()) return restored_cudnn_call(conv, choice);
    for (const MatrixWay& way : products(p, conv, parts))
      if (way.name == choice.name) return way.make();
    return nullptr;
  }

  // Those that need no cuDNN.
  std::vector<MatrixWay> products(const CudaPrepare& p, const CudnnConv& conv, std::int64_t parts) const {
    if (is_product(p)) return gemm_ways(product(p, fused_, parts));
    std::vector<MatrixWay> out;
    if (!may_lay_out_windows(p)) return out;
    for (const MatrixWay& way : gemm_ways(product(p, fused_, parts)))
      if (out.size() < kMostProductsOfWindows)
        out.push_back({WindowsCall::kPrefix + way.name,
                       [conv, way] { return std::make_unique<WindowsCall>(conv, way.make()); }});
    return out;
  }

  std::vector<MatrixWay> implementations(const CudaPrepare& p, const CudnnConv& conv,
                                         std::int64_t parts) const {
    // Without a budget only the first will be looked at; but of several photos that of a certain name, and
    // what was guessed once.
    CudaTuner& tuner = p.tuner();
    const bool all_count = tuner.seconds_left() > 0 || parts < photos_of(p) || tuner.has_guess(conv.key());
    std::vector<MatrixWay> out, own = all_count || is_product(p) ? products(p, conv, parts) : out;
    if (all_count || own.empty()) out = cudnn_ways(conv);
    // A product is mostly fastest as one, or else as what cuDNN puts first. (Of several photos that of a
    // certain name is wanted.)
    if (!own.empty() && is_product(p) && parts == photos_of(p))
      out.resize(std::min(out.size(), kMostConvsOfProducts));
    // Taken in turns, each list's most promising first; our own begin only where that is what one expects.
    if (!is_product(p)) std::swap(own, out);
    std::vector<MatrixWay> all;
    for (std::size_t i = 0; i < std::max(own.size(), out.size()); ++i)
      for (const auto* ways : {&own, &out})
        if (i < ways->size()) all.push_back((*ways)[i]);
    return all;
  }

  const Conv& op_;
  const bool residual_;
  Fused fused_;
  std::shared_ptr<const DeviceBuffer> weight_, bias_;
  std::unique_ptr<MatrixCall> call_;
  double flops_ = 0;
};

}  // namespace

CudaKernel conv_cuda() {
  return {.op = &kOpInfo<Conv>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare = [](CudaPrepare& p) -> std::unique_ptr<CudaStep> {
            if (p.has_input(4))
              fail(ErrorCode::kDevice,
                   "{}: factors of channels run on the CPU alone; build the engine with --device cuda",
                   p.node().name);
            if (auto stem = stem_conv_step(p)) return stem;
            if (auto stem = small_stem_conv_step(p)) return stem;
            if (auto depthwise = depthwise_conv_step(p)) return depthwise;
            if (auto parts = conv_parts_step(p)) return parts;
            return std::make_unique<ConvStep>(p);
          }};
}

}  // namespace osprey
