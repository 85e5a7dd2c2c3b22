#include "cuda/conv_group_step.h"

#include <algorithm>

#include <fmt/format.h>

#include "cuda/bench_run.h"
#include "cuda/depthwise_conv.h"
#include "cuda/hopper/conv_group.h"
#include "cuda/matrix_call.h"
#include "cuda/matrix_kernels.h"
#include "cuda/measure.h"
#include "cuda/packed_weights.h"
#include "cuda/quantized_depthwise.h"
#include "cuda/quantized_hopper_step.h"
#include "cuda/tuner.h"
#include "ops/conv.h"
#include "ops/quantized_conv.h"

namespace osprey {
namespace {

static_assert(kMostConvsOfAStep <= kMostGroupedConvs && kMostConvsOfAStep <= kMostDepthwise);
// Below it tiles are mostly empty.
constexpr std::int64_t kLeastChannels = 64;

bool is_half(DType type) { return type == DType::kF16 || type == DType::kBF16; }

bool takes(const Conv& op, const Shape& weight) {
  const std::vector<int> one{1, 1};
  const int border = static_cast<int>(weight[2]) / 2;
  return weight[2] == weight[3] && (weight[2] == 1 || weight[2] == 3) && op.groups == 1 && op.stride == one &&
         op.dilation == one && (op.padding == Padding::kSame || op.pads == std::vector<int>(4, border));
}

GroupedConv described(const CudaPrepare& p) {
  const Shape &x = p.input(0).dims, &y = p.output(0).dims;
  return {.images = x[0],
          .height = x[2],
          .width = x[3],
          .channels = x[1],
          .outputs = y[1],
          .side = static_cast<int>(p.input(1).dims[2]),
          .f32_out = p.output(0).dtype == DType::kF32,
          .activation = p.op<Conv>().activation};
}

std::string text_of(const GroupedConv& c) {
  return fmt::format("{}x{}x{}x{}>{}{} {}x{} {}", c.images, c.height, c.width, c.channels, c.outputs,
                     c.f32_out ? " f32" : "", c.side, c.side,
                     kActivationNames[static_cast<std::size_t>(c.activation)]);
}

double flops_of(const GroupedConv& c) {
  return 2.0 * static_cast<double>(c.images * c.height * c.width * c.outputs) *
         static_cast<double>(c.side * c.side * c.channels);
}

// What one member sees of a run of the step.
class MemberRun final : public CudaRun {
 public:
  MemberRun(CudaRun& step, std::size_t first_in, std::size_t first_out)
      : step_(step), first_in_(first_in), first_out_(first_out) {}
  const CudaValue& in(std::size_t i) const override { return step_.in(first_in_ + i); }
  const CudaValue& out(std::size_t i) const override { return step_.out(first_out_ + i); }
  bool has_input(std::size_t i) const override { return step_.has_input(first_in_ + i); }
  std::byte* scratch() const override { return step_.scratch(); }
  cudaStream_t stream() const override { return step_.stream(); }
  const CudaPhotos& photos() const override { return step_.photos(); }
  const CudaParameters* parameters() const override { return step_.parameters(); }

 private:
  CudaRun& step_;
  std::size_t first_in_, first_out_;
};

struct Member {
  GroupedConv conv;
  std::size_t first_in = 0;
  std::shared_ptr<const DeviceBuffer> weight, bias;  // of our own kernel
};

class OwnStep final : public CudaStep {
 public:
  OwnStep(std::span<CudaPrepare* const> members)
      : multiprocessors_(members.front()->device().multiprocessors) {
    type_ = members.front()->input(0).dtype;
    std::size_t ins = 0;
    for (CudaPrepare* p : members) {
      Member m{.conv = described(*p), .first_in = ins, .weight = nullptr, .bias = nullptr};
      ins += p->node().inputs.size();
      const bool f32_out = m.conv.f32_out;
      m.weight =
          packed_weight(*p, 1, fmt::format("grouped{} {}", f32_out ? " f32" : "", name_of(type_)),
                        [&](const Tensor& f32) { return as_type(grouped_conv_weight(f32, f32_out), type_); });
      if (p->has_input(2)) m.bias = packed_vector(*p, 2, DType::kF32);
      members_.push_back(std::move(m));
    }
  }

  void launch(CudaRun& run) override {
    std::vector<GroupedConv> convs;
    for (std::size_t i = 0; i < members_.size(); ++i) {
      const Member& m = members_[i];
      GroupedConv& c = convs.emplace_back(m.conv);
      c.x = run.in(m.first_in).data;
      c.weight = m.weight->data();
      c.bias = m.bias ? m.bias->as<float>() : nullptr;
      c.y = run.out(i).data;
    }
    launch_conv_group(convs, type_, multiprocessors_, run.stream());
  }
  std::string detail() const override { return fmt::format("own, {} in one launch", members_.size()); }
  double flops() const override {
    double sum = 0;
    for (const Member& m : members_) sum += flops_of(m.conv);
    return sum;
  }

 private:
  int multiprocessors_;
  DType type_ = DType::kF16;
  std::vector<Member> members_;
};

class EachStep final : public CudaStep {
 public:
  EachStep(std::span<CudaPrepare* const> members,
           const std::function<std::unique_ptr<CudaStep>(CudaPrepare&)>& each) {
    for (CudaPrepare* p : members) {
      first_ins_.push_back(ins_);
      ins_ += p->node().inputs.size();
      steps_.push_back(each(*p));
    }
  }

  void launch(CudaRun& run) override {
    for (std::size_t i = 0; i < steps_.size(); ++i) {
      MemberRun member(run, first_ins_[i], i);
      steps_[i]->launch(member);
    }
  }
  std::string detail() const override {
    return fmt::format("{} one after the other: {}", steps_.size(), steps_.front()->detail());
  }
  double flops() const override {
    double sum = 0;
    for (const auto& step : steps_) sum += step->flops();
    return sum;
  }

 private:
  std::size_t ins_ = 0;
  std::vector<std::size_t> first_ins_;
  std::vector<std::unique_ptr<CudaStep>> steps_;
};

// Taps are parts of the sum; each part's sums go to the scratch memory.
class PartsStep final : public CudaStep {
 public:
  PartsStep(CudaPrepare& p, const GroupedConv& conv)
      : type_(p.input(0).dtype),
        out_type_(p.output(0).dtype),
        pixels_(p.output(0).dims[0] * p.output(0).dims[2] * p.output(0).dims[3]),
        multiprocessors_(p.device().multiprocessors) {
    weight_ = packed_weight(p, 1, fmt::format("grouped f32 {}", name_of(type_)), [&](const Tensor& f32) {
      return as_type(grouped_conv_weight(f32, true), type_);
    });
    if (p.has_input(2)) bias_ = packed_vector(p, 2, DType::kF32);
    activation_ = conv.activation;
    flops_ = 2.0 * static_cast<double>(pixels_ * conv.outputs) *
             static_cast<double>(conv.side * conv.side * conv.channels);
    for (int tap = 0; tap < conv.side * conv.side; ++tap) {
      GroupedConv& part = parts_.emplace_back(conv);
      part.weight = weight_->data();
      part.activation = Activation::kNone;
      part.f32_out = true;
      part.first_tap = tap;
      part.taps = 1;
    }
    p.request_scratch(parts_.size() * static_cast<std::size_t>(pixels_ * conv.outputs) * sizeof(float));
  }

  void launch(CudaRun& run) override {
    auto* const sums = reinterpret_cast<float*>(run.scratch());
    const std::int64_t outputs = parts_.front().outputs;
    std::vector<GroupedConv> parts = parts_;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      parts[i].x = run.in(0).data;
      parts[i].y = sums + static_cast<std::int64_t>(i) * pixels_ * outputs;
    }
    launch_conv_group(parts, type_, multiprocessors_, run.stream());
    launch_part_sum(static_cast<int>(parts.size()), pixels_, outputs, activation_, sums, out_type_,
                    run.out(0).data, bias_ ? bias_->as<float>() : nullptr, run.stream());
  }
  std::string detail() const override { return fmt::format("own, {} parts", parts_.size()); }
  double flops() const override { return flops_; }

 private:
  DType type_, out_type_;
  std::int64_t pixels_;
  int multiprocessors_;
  Activation activation_ = Activation::kNone;
  double flops_ = 0;
  std::vector<GroupedConv> parts_;
  std::shared_ptr<const DeviceBuffer> weight_, bias_;
};

// Of one photo, whatever the batch: what a photo gives must not depend on those beside it.
std::string key_of(std::span<CudaPrepare* const> members) {
  std::string out = fmt::format("grouped {}", name_of(members.front()->input(0).dtype));
  for (const CudaPrepare* p : members) {
    GroupedConv conv = described(*p);
    conv.images /= photos_of(*p);
    out += ", " + text_of(conv);
  }
  return out;
}

Shape weight_dims(const Graph& graph, const Node& node) {
  Shape out;
  for (const Dim& d : graph.value(node.inputs[1]).type.dims) out.push_back(d.constant());
  return out;
}

std::string quantized_depthwise_key(const Graph& graph, const Node& node) {
  const QuantizedConv& op = *node.op.as<QuantizedConv>();
  const TensorType& x = graph.value(node.inputs[0]).type;
  const Shape weight = weight_dims(graph, node);
  if (node.inputs.size() > 4 || !x.dims[0].is_exact() ||
      !is_quantized_depthwise(op, weight, x.dims[1].constant()))
    return "";
  return fmt::format("depthwise {} {}x{} {}", name_of(x.dtype), weight[2], weight[3], op.stride[0]);
}

}  // namespace

std::string conv_group_key(const Graph& graph, const Node& node, const CudaDevice& device) {
  if (node.op.as<QuantizedConv>()) {
    const std::string depthwise = quantized_depthwise_key(graph, node);
    return depthwise.empty() ? quantized_group_key(graph, node, device) : depthwise;
  }
  const Conv* op = node.op.as<Conv>();
  if (!op || node.inputs.size() > 4 || (node.inputs.size() > 3 && node.inputs[3] != kNoValue) ||
      !graph.weight(node.inputs[1]))
    return "";
  const TensorType &x = graph.value(node.inputs[0]).type, &y = graph.value(node.outputs[0]).type;
  if (!x.dims[0].is_exact()) return "";
  const Shape weight = weight_dims(graph, node);
  const std::int64_t channels = x.dims[1].constant();
  if (is_depthwise_step(*op, weight, channels))
    return fmt::format("depthwise {} {}x{} {}", name_of(x.dtype), weight[2], weight[3], op->stride[0]);
  if (device.major != 9 || !is_half(x.dtype) || (y.dtype != x.dtype && y.dtype != DType::kF32) ||
      !takes(*op, weight) || channels % 8 != 0 || channels < kLeastChannels)
    return "";
  return fmt::format("{} {} {}x{}", name_of(x.dtype), name_of(y.dtype), weight[2], weight[3]);
}

std::unique_ptr<CudaStep> conv_group_step(std::span<CudaPrepare* const> members,
                                          const std::function<std::unique_ptr<CudaStep>(CudaPrepare&)>& each,
                                          const std::function<std::size_t()>& scratch) {
  const CudaPrepare& first = *members.front();
  if (const auto* op = first.node().op.as<QuantizedConv>()) {
    if (is_quantized_depthwise(*op, first.input(1).dims, first.input(0).dims[1]))
      return quantized_depthwise_step(members);
    if (auto own = quantized_group_step(members)) return own;
    return std::make_unique<EachStep>(members, each);
  }
  if (is_depthwise_step(first.op<Conv>(), first.input(1).dims, first.input(0).dims[1]))
    return depthwise_conv_step(members);
  const std::vector<std::string> names{"own", "each"};
  const std::string key = key_of(members);
  CudaTuner& tuner = members.front()->tuner();
  const bool possible = std::all_of(members.begin(), members.end(),
                                    [](const CudaPrepare* p) { return can_group(described(*p)); });
  if (!possible) return std::make_unique<EachStep>(members, each);
  const auto known = tuner.find(key);
  if (known ? known->name == names[0] : tuner.seconds_left() == 0) return std::make_unique<OwnStep>(members);
  std::unique_ptr<CudaStep> steps[]{nullptr, std::make_unique<EachStep>(members, each)};
  if (known) return std::move(steps[1]);
  steps[0] = std::make_unique<OwnStep>(members);
  BenchRun run(members, scratch());
  const std::size_t best = tuner.choose(key, names, [&](std::size_t i) {
    return measure_launches(run.stream(), [&] { steps[i]->launch(run); });
  });
  return std::move(steps[best]);
}

std::unique_ptr<CudaStep> conv_parts_step(CudaPrepare& p) {
  constexpr std::int64_t kMostPixels = 300, kLeastInputs = 2048;  // pixels: of a photo
  const Conv& op = p.op<Conv>();
  const CudaValue &x = p.input(0), &y = p.output(0);
  const Shape& weight = p.input(1).dims;
  if (p.device().major != 9 || !is_half(x.dtype) || x.rows || p.has_input(3) || op.groups != 1 ||
      weight[2] != 3 || weight[3] != 3 || op.dilation != std::vector<int>{1, 1} ||
      op.stride[0] != op.stride[1] || op.stride[0] > 2 || y.dims[1] % 4 != 0 ||
      y.dims[2] * y.dims[3] * y.dims[0] / photos_of(p) > kMostPixels || weight[1] * 9 < kLeastInputs)
    return nullptr;
  const auto pads = op.window(3, 3).pads_of(x.dims[2], x.dims[3]);
  const std::int64_t stride = op.stride[0];
  const GroupedConv conv{.images = x.dims[0],
                         .height = x.dims[2],
                         .width = x.dims[3],
                         .channels = x.dims[1],
                         .outputs = y.dims[1],
                         .side = 3,
                         .stride = op.stride[0],
                         .top = pads[0],
                         .left = pads[1],
                         .activation = op.activation};
  const bool same_size =
      y.dims[2] == (x.dims[2] + stride - 1) / stride && y.dims[3] == (x.dims[3] + stride - 1) / stride;
  if (!can_group(conv) || !same_size || pads[0] > 1 || pads[1] > 1) return nullptr;
  return std::make_unique<PartsStep>(p, conv);
}

}  // namespace osprey
