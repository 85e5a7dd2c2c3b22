#include "cuda/quantized_hopper_step.h"

#include <algorithm>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "cuda/bench_run.h"
#include "cuda/hopper/quantized_conv_group.h"
#include "cuda/measure.h"
#include "cuda/tuner.h"
#include "ops/quantized_conv.h"

namespace osprey {
namespace {

enum Input : std::size_t { kX, kWeight, kScale, kBias, kResidual };

// Below it steps are mostly empty.
constexpr std::int64_t kLeastChannels = 64;

// Whatever the maps' sizes.
bool takes(const QuantizedConv& op, const Shape& weight, DType residual) {
  return op.groups == 1 && weight[2] == weight[3] && (weight[2] == 1 || weight[2] == 3) &&
         op.stride[0] == op.stride[1] && op.stride[0] <= 2 && op.dilation == std::vector<int>{1, 1} &&
         weight[1] >= kLeastChannels && weight[1] % 16 == 0 && residual != DType::kBF16;
}

// Without pointers; none where the map is not one that the kernel takes.
std::optional<QuantizedGroupedConv> described(const CudaPrepare& p) {
  const auto& op = p.op<QuantizedConv>();
  const Shape &x = p.input(kX).dims, &y = p.output(0).dims, &weight = p.input(kWeight).dims;
  const bool residual = p.has_input(kResidual);
  if (!takes(op, weight, residual ? p.input(kResidual).dtype : DType::kI8)) return std::nullopt;
  const auto pads = op.window(weight[2], weight[3]).pads_of(x[2], x[3]);
  const QuantizedGroupedConv out{.shape = {.images = x[0],
                                           .height = x[2],
                                           .width = x[3],
                                           .channels = x[1],
                                           .outputs = y[1],
                                           .side = static_cast<int>(weight[2]),
                                           .stride = op.stride[0],
                                           .top = pads[0],
                                           .left = pads[1]},
                                 .to = op.to,
                                 .activation = op.activation,
                                 .y_scale = op.y_scale,
                                 .residual = {.type = residual ? p.input(kResidual).dtype : DType::kI8,
                                              .upsampling = op.residual_upsampling,
                                              .scale = op.residual_scale}};
  const int border = weight[2] == 3 ? 1 : 0;
  const bool right = pads[0] <= border && pads[1] <= border && y[2] == out.shape.out_height() &&
                     y[3] == out.shape.out_width();
  const bool smooth = op.activation == Activation::kSwish || op.activation == Activation::kSigmoid;
  return right && can_group(out) && !(smooth && residual && is_integer(op.to)) ? std::optional(out)
                                                                               : std::nullopt;
}

std::string text_of(const QuantizedGroupedConv& c, bool residual) {
  const ConvShape& s = c.shape;
  return fmt::format("{}x{}x{}x{}>{} {} {}x{} {} {}{}", s.images, s.height, s.width, s.channels, s.outputs,
                     kStoredTypeNames[static_cast<std::size_t>(c.to)], s.side, s.side, s.stride,
                     kActivationNames[static_cast<std::size_t>(c.activation)],
                     residual ? fmt::format(" + {}", c.residual.upsampling) : "");
}

double flops_of(const ConvShape& s) {
  return 2.0 * static_cast<double>(s.out_pixels() * s.outputs) *
         static_cast<double>(s.side * s.side * s.channels);
}

struct Member {
  QuantizedGroupedConv conv;  // with the constants
  bool residual = false;
  std::size_t first_in = 0;
  std::shared_ptr<const DeviceBuffer> weight, terms;
};

Member member_of(const CudaPrepare& p, const QuantizedGroupedConv& conv, std::size_t first_in) {
  Member m{.conv = conv, .residual = p.has_input(kResidual), .first_in = first_in, .weight = {}, .terms = {}};
  const auto& inputs = p.node().inputs;
  const std::string_view stored =
      is_integer(conv.to) ? "integers" : kStoredTypeNames[static_cast<std::size_t>(conv.to)];
  m.weight = p.shared(fmt::format("quantized grouped:{}:{}", inputs[kWeight], stored), [&] {
    return DeviceBuffer::holding(quantized_grouped_weight(p.weight(kWeight), conv.to).bytes());
  });
  // Levels of a head share weights, and have scales of their own.
  const float x_scale = p.op<QuantizedConv>().x_scale;
  const bool bias = p.has_input(kBias);
  m.terms = p.shared(fmt::format("quantized terms:{}:{}:{:a}:{:a}:{}:{}", inputs[kScale],
                                 bias ? fmt::format("{}", inputs[kBias]) : "", x_scale, conv.y_scale,
                                 kStoredTypeNames[static_cast<std::size_t>(conv.to)],
                                 kActivationNames[static_cast<std::size_t>(conv.activation)]),
                     [&] {
                       return DeviceBuffer::holding(
                           quantized_grouped_terms(conv, p.weight(kScale).to_f32(),
                                                   bias ? p.weight(kBias).to_f32() : Tensor(), x_scale)
                               .bytes());
                     });
  m.conv.weight = m.weight->data();
  m.conv.terms = m.terms->data();
  return m;
}

class HopperStep final : public CudaStep {
 public:
  HopperStep(std::span<CudaPrepare* const> members, const std::vector<QuantizedGroupedConv>& convs)
      : multiprocessors_(members.front()->device().multiprocessors), type_(members.front()->input(kX).dtype) {
    std::size_t ins = 0;
    for (std::size_t i = 0; i < members.size(); ++i) {
      members_.push_back(member_of(*members[i], convs[i], ins));
      ins += members[i]->node().inputs.size();
    }
    std::vector<QuantizedGroupedConv> all;
    for (const Member& m : members_) all.push_back(m.conv);
    ways_ = quantized_group_ways(all);
    way_ = fastest(members);
  }

  void launch(CudaRun& run) override { launch(run, way_); }
  std::string detail() const override {
    return fmt::format("own int8, tiles of {}{}", ways_[way_],
                       members_.size() == 1 ? "" : fmt::format(", {} in one launch", members_.size()));
  }
  double flops() const override {
    double sum = 0;
    for (const Member& m : members_) sum += flops_of(m.conv.shape);
    return sum;
  }

 private:
  void launch(CudaRun& run, std::size_t way) const {
    std::vector<QuantizedGroupedConv> convs;
    for (std::size_t i = 0; i < members_.size(); ++i) {
      const Member& m = members_[i];
      QuantizedGroupedConv& c = convs.emplace_back(m.conv);
      c.x = run.in(m.first_in).data;
      c.live = run.in(m.first_in).rows;
      if (m.residual) c.residual_data = run.in(m.first_in + kResidual).data;
      c.y = run.out(i).data;
    }
    launch_quantized_conv_group(convs, type_, way, multiprocessors_, run.stream());
  }

  std::string key() const {
    std::string out = fmt::format("int8 {} of {} ways", name_of(type_), ways_.size());
    for (const Member& m : members_) out += ", " + text_of(m.conv, m.residual);
    return out;
  }

  // Measured on random bytes: the sums are exact, so that the tiles do not change the result.
  std::size_t fastest(std::span<CudaPrepare* const> members) const {
    CudaPrepare& first = *members.front();
    if (const auto known = first.tuner().find(key()))
      if (const auto it = std::ranges::find(ways_, known->name); it != ways_.end())
        return static_cast<std::size_t>(it - ways_.begin());
    if (first.tuner().seconds_left() == 0) return 0;
    BenchRun run(members, 0);
    return first.tuner().choose(key(), ways_, [&](std::size_t way) {
      return measure_launches(run.stream(), [&] { launch(run, way); });
    });
  }

  int multiprocessors_;
  DType type_;
  std::vector<Member> members_;
  std::vector<std::string> ways_;
  std::size_t way_ = 0;
};

}  // namespace

std::unique_ptr<CudaStep> quantized_hopper_step(CudaPrepare& p) {
  CudaPrepare* const alone[]{&p};
  const Activation activation = p.op<QuantizedConv>().activation;
  const bool smooth = activation == Activation::kSwish || activation == Activation::kSigmoid;
  // Alone those were not measured against other kernels.
  if (smooth && is_integer(p.op<QuantizedConv>().to)) return nullptr;
  return p.device().major == 9 ? quantized_group_step(alone) : nullptr;
}

std::string quantized_group_key(const Graph& graph, const Node& node, const CudaDevice& device) {
  const auto* op = node.op.as<QuantizedConv>();
  if (!op || device.major != 9 || !graph.weight(node.inputs[kWeight])) return "";
  const bool residual = node.inputs.size() > kResidual && node.inputs[kResidual] != kNoValue;
  Shape weight;
  for (const Dim& d : graph.value(node.inputs[kWeight]).type.dims) weight.push_back(d.constant());
  const TensorType& x = graph.value(node.inputs[kX]).type;
  if (residual || !x.dims[0].is_exact() || !takes(*op, weight, DType::kI8) ||
      (is_integer(op->to) && weight[0] % 16 != 0))
    return "";
  return fmt::format("{} {} {}x{} {}", name_of(x.dtype),
                     is_integer(op->to) ? "integers" : kStoredTypeNames[static_cast<std::size_t>(op->to)],
                     weight[2], weight[3], op->stride[0]);
}

std::unique_ptr<CudaStep> quantized_group_step(std::span<CudaPrepare* const> members) {
  std::vector<QuantizedGroupedConv> convs;
  for (const CudaPrepare* p : members) {
    const auto conv = described(*p);
    if (!conv) return nullptr;
    convs.push_back(*conv);
  }
  return std::make_unique<HopperStep>(members, convs);
}

}  // namespace osprey
