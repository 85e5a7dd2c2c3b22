#include "cuda/quantized_hopper_step.h"

#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "cuda/bench_run.h"
#include "cuda/hopper/quantized_conv_group.h"
#include "cuda/hopper/quantized_predictors.h"
#include "cuda/joined_steps.h"
#include "cuda/measure.h"
#include "cuda/select_anchors.h"
#include "cuda/tuner.h"
#include "ops/quantized_conv.h"
#include "ops/select_anchors.h"

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

struct Constants {
  std::shared_ptr<const DeviceBuffer> weight, terms;
};

// As the kernel for predictors, or the one for any convolutions, packs them. Levels of a head share weights,
// and have scales of their own.
Constants constants_of(const CudaPrepare& p, const QuantizedGroupedConv& conv, bool predictor) {
  const auto& inputs = p.node().inputs;
  const std::string_view stored = kStoredTypeNames[static_cast<std::size_t>(conv.to)];
  const std::string_view packing = predictor ? "quantized predictor" : "quantized grouped";
  const float x_scale = p.op<QuantizedConv>().x_scale;
  const bool bias = p.has_input(kBias);
  const auto weight = [&] {
    const Tensor of = p.weight(kWeight);
    return predictor ? quantized_predictor_weight(of) : quantized_grouped_weight(of, conv.to);
  };
  const auto terms = [&] {
    const auto pack = predictor ? quantized_predictor_terms : quantized_grouped_terms;
    return pack(conv, p.weight(kScale).to_f32(), bias ? p.weight(kBias).to_f32() : Tensor(), x_scale);
  };
  return {.weight = p.shared(
              fmt::format("{}:{}:{}", packing, inputs[kWeight], is_integer(conv.to) ? "integers" : stored),
              [&] { return DeviceBuffer::holding(weight().bytes()); }),
          .terms = p.shared(fmt::format("{} terms:{}:{}:{:a}:{:a}:{}:{}", packing, inputs[kScale],
                                        bias ? fmt::format("{}", inputs[kBias]) : "", x_scale, conv.y_scale,
                                        stored, kActivationNames[static_cast<std::size_t>(conv.activation)]),
                            [&] { return DeviceBuffer::holding(terms().bytes()); })};
}

// What is known of a convolution's result when the step is made.
struct Result {
  QuantizedGroupedConv conv;
  bool flagged = false;  // may be there in part
};

struct Member {
  QuantizedGroupedConv conv;  // without pointers
  bool residual = false, flagged = false;
  std::size_t first_in = 0;
  Constants grouped, predictor;  // predictor: none for others
};

// Flags of the results of a step's members that are there in part.
using Flags = std::vector<ScoreFlags>;

class HopperStep final : public CudaStep {
 public:
  HopperStep(std::span<CudaPrepare* const> members, const std::vector<Result>& results)
      : multiprocessors_(members.front()->device().multiprocessors), type_(members.front()->input(kX).dtype) {
    ValueId weight = kNoValue;  // of the predictors
    for (std::size_t i = 0, ins = 0; i < members.size(); ++i) {
      const CudaPrepare& p = *members[i];
      Member& m = members_.emplace_back(Member{.conv = results[i].conv,
                                               .residual = p.has_input(kResidual),
                                               .flagged = results[i].flagged,
                                               .first_in = ins,
                                               .grouped = constants_of(p, results[i].conv, false),
                                               .predictor = {}});
      ins += p.node().inputs.size();
      const ValueId own = p.node().inputs[kWeight];
      const bool apart = is_predictor(p, m) && (weight == kNoValue || weight == own);
      (apart ? predictors_ : others_).push_back(i);
      if (!apart) continue;
      weight = own;
      m.predictor = constants_of(p, m.conv, true);
    }
    find_ways();
    way_ = fastest(members);
  }

  void launch(CudaRun& run) override { launch(run, way_, Flags(members_.size())); }
  void launch(CudaRun& run, const Flags& flags) const { launch(run, way_, flags); }
  std::string detail() const override {
    const bool two = ways_[way_].apart && !others_.empty();
    return fmt::format("own int8, tiles of {}{}", ways_[way_].name,
                       members_.size() == 1
                           ? ""
                           : fmt::format(", {} in {}", members_.size(), two ? "two launches" : "one launch"));
  }
  double flops() const override {
    double sum = 0;
    for (const Member& m : members_) sum += flops_of(m.conv.shape);
    return sum;
  }

 private:
  struct Way {
    std::string name;
    std::size_t tiles;  // of quantized_group_ways()
    bool apart;         // predictors in a launch of their own
  };

  // Of few outputs, all of which are wanted.
  static bool is_predictor(const CudaPrepare& p, const Member& m) {
    const bool exact = p.graph().value(p.node().inputs[kX]).type.dims[0].is_exact();
    return exact && !m.residual && !m.flagged && is_small_predictor(m.conv);
  }

  void find_ways() {
    std::vector<QuantizedGroupedConv> all, others;
    for (const Member& m : members_) all.push_back(m.conv);
    for (const std::size_t i : others_) others.push_back(members_[i].conv);
    const auto add = [&](const std::vector<std::string>& names, std::string_view behind, bool apart) {
      for (std::size_t i = 0; i < names.size(); ++i)
        ways_.push_back({fmt::format("{}{}", names[i], behind), i, apart});
    };
    add(quantized_group_ways(all), "", false);
    if (predictors_.empty()) return;
    if (others.empty())
      add({"predictors"}, "", true);
    else
      add(quantized_group_ways(others), ", predictors apart", true);
  }

  QuantizedGroupedConv placed(CudaRun& run, std::size_t i, const Constants& constants,
                              const Flags& flags) const {
    const Member& m = members_[i];
    QuantizedGroupedConv out = m.conv;
    out.weight = constants.weight->data(), out.terms = constants.terms->data();
    out.x = run.in(m.first_in).data;
    out.live = run.in(m.first_in).rows;
    if (m.residual) out.residual_data = run.in(m.first_in + kResidual).data;
    out.y = run.out(i).data;
    out.scores = flags[i];
    return out;
  }

  void launch(CudaRun& run, std::size_t which, const Flags& flags) const {
    const Way& way = ways_[which];
    std::vector<QuantizedGroupedConv> convs, apart;
    for (const std::size_t i : others_) convs.push_back(placed(run, i, members_[i].grouped, flags));
    for (const std::size_t i : predictors_)
      way.apart ? apart.push_back(placed(run, i, members_[i].predictor, flags))
                : convs.push_back(placed(run, i, members_[i].grouped, flags));
    if (!apart.empty()) launch_quantized_predictors(apart, type_, multiprocessors_, run.stream());
    if (!convs.empty()) launch_quantized_conv_group(convs, type_, way.tiles, multiprocessors_, run.stream());
  }

  std::string key() const {
    std::string out = fmt::format("int8 {} of {} ways", name_of(type_), ways_.size());
    for (const Member& m : members_)
      out += ", " + text_of(m.conv, m.residual) + (m.flagged ? " flagged" : "");
    return out;
  }

  // Flags for measurements, as if no score were high enough, which is nearly so.
  class NoneHighEnough {
   public:
    explicit NoneHighEnough(const std::vector<Member>& members) : flags(members.size()) {
      for (std::size_t i = 0; i < members.size(); ++i)
        if (members[i].flagged) flags[i] = {bytes_of(members[i].conv.shape), least_.as<float>()};
    }

   private:
    static constexpr float kMost = std::numeric_limits<float>::infinity();

    std::uint8_t* bytes_of(const ConvShape& s) {
      const std::size_t each = flag_bytes(static_cast<unsigned>(s.outputs));
      return buffers_.emplace_back(static_cast<std::size_t>(s.out_pixels()) * each).as<std::uint8_t>();
    }

    DeviceBuffer least_ = DeviceBuffer::holding(std::as_bytes(std::span(&kMost, 1)));
    std::vector<DeviceBuffer> buffers_;

   public:
    Flags flags;
  };

  // Measured on random bytes: the sums are exact, so that the tiles do not change the result.
  std::size_t fastest(std::span<CudaPrepare* const> members) const {
    CudaPrepare& first = *members.front();
    std::vector<std::string> names;
    for (const Way& way : ways_) names.push_back(way.name);
    if (const auto known = first.tuner().find(key()))
      if (const auto it = std::ranges::find(names, known->name); it != names.end())
        return static_cast<std::size_t>(it - names.begin());
    if (first.tuner().seconds_left() == 0) return 0;
    BenchRun run(members, 0);
    const NoneHighEnough none(members_);
    return first.tuner().choose(key(), names, [&](std::size_t way) {
      return measure_launches(run.stream(), [&] { launch(run, way, none.flags); });
    });
  }

  int multiprocessors_;
  DType type_;
  std::vector<Member> members_;
  std::vector<std::size_t> others_, predictors_;  // of members; predictors: of the same weight
  std::vector<Way> ways_;
  std::size_t way_ = 0;
};

std::vector<ValueId> scores_of(const Node& select) {
  std::vector<ValueId> out;
  for (std::size_t l = 0; l < select.op.as<SelectAnchors>()->strides.size(); ++l)
    out.push_back(select.inputs[2 * l]);
  return out;
}

// Of each level of a selection, the last member: which of the others makes its scores.
std::vector<std::size_t> makers_of_scores(std::span<CudaPrepare* const> members) {
  std::vector<std::size_t> out;
  for (const ValueId scores : scores_of(members.back()->node())) {
    const auto it =
        std::ranges::find_if(members, [&](const CudaPrepare* p) { return p->node().outputs[0] == scores; });
    check(it != members.end(), "{}: a level of scores from elsewhere", members.back()->node().name);
    out.push_back(static_cast<std::size_t>(it - members.begin()));
  }
  return out;
}

// Convolutions that make scores, among others, and the selection that alone reads those.
class SelectedScoresStep final : public CudaStep {
 public:
  SelectedScoresStep(std::span<CudaPrepare* const> members, std::vector<Result> convs)
      : makers_(makers_of_scores(members)),
        first_in_(inputs_of(members.first(convs.size()))),
        first_out_(convs.size()),
        select_(anchor_selection(*members.back())) {
    for (const std::size_t i : makers_) convs[i].flagged = true;
    convs_ = std::make_unique<HopperStep>(members.first(convs.size()), convs);
  }

  void launch(CudaRun& run) override {
    const bool flagged = is_captured(run.stream());
    MemberRun selection(run, first_in_, first_out_);
    const Flags of_levels = select_->begin(selection, flagged);
    Flags flags(first_out_);
    for (std::size_t l = 0; l < makers_.size(); ++l) flags[makers_[l]] = of_levels[l];
    convs_->launch(run, flags);
    select_->end(selection, flagged);
  }
  std::string detail() const override { return convs_->detail() + "; then " + select_->detail(); }
  double flops() const override { return convs_->flops(); }

 private:
  std::vector<std::size_t> makers_;
  std::size_t first_in_, first_out_;  // of the selection
  std::unique_ptr<AnchorSelection> select_;
  std::unique_ptr<HopperStep> convs_;
};

std::optional<std::vector<Result>> all_described(std::span<CudaPrepare* const> members) {
  std::vector<Result> out;
  for (const CudaPrepare* p : members) {
    const auto conv = described(*p);
    if (!conv) return std::nullopt;
    out.push_back({.conv = *conv});
  }
  return out;
}

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
  const auto convs = all_described(members);
  return convs ? std::make_unique<HopperStep>(members, *convs) : nullptr;
}

namespace {

// Of our convolutions, those whose results may be there in part, as only the selection reads them.
bool can_flag(const Graph& graph, ValueId scores) {
  const auto& op = *graph.producer(scores)->op.as<QuantizedConv>();
  return sole_reader(graph, scores) && op.to == StoredType::kF32 && op.activation == Activation::kNone &&
         graph.value(scores).type.dims[1].constant() % kFlaggedTogether == 0;
}

}  // namespace

void join_selections(const Graph& graph, const CudaDevice& device,
                     std::vector<std::vector<const Node*>>& groups) {
  constexpr std::ptrdiff_t kFromBefore = -1;  // weights, inputs
  std::map<ValueId, std::ptrdiff_t> makers;
  for (std::size_t i = 0; i < groups.size(); ++i)
    for (const Node* node : groups[i])
      for (const ValueId id : node->outputs) makers[id] = static_cast<std::ptrdiff_t>(i);
  const auto maker = [&](ValueId id) { return makers.contains(id) ? makers[id] : kFromBefore; };
  const auto ours = [&](const Node* node) { return !quantized_group_key(graph, *node, device).empty(); };
  for (auto& selection : groups) {
    const Node* const node = selection.front();
    const auto* op = node->op.as<SelectAnchors>();
    if (!op || !op->has_threshold) continue;
    const std::vector<ValueId> scores = scores_of(*node);
    const std::ptrdiff_t place = maker(scores.front());
    if (place == kFromBefore) continue;
    auto& group = groups[static_cast<std::size_t>(place)];
    const auto joins = [&](ValueId id) { return maker(id) == place && can_flag(graph, id); };
    const auto there = [&](ValueId id) { return maker(id) <= place; };
    if (!std::ranges::all_of(group, ours) || !std::ranges::all_of(scores, joins) ||
        !std::ranges::all_of(node->inputs, there))
      continue;
    group.push_back(node);
    selection.clear();
  }
  std::erase_if(groups, [](const auto& group) { return group.empty(); });
}

std::unique_ptr<CudaStep> selected_scores_step(std::span<CudaPrepare* const> members) {
  const auto convs = all_described(members.first(members.size() - 1));
  return convs ? std::make_unique<SelectedScoresStep>(members, *convs) : nullptr;
}

}  // namespace osprey
