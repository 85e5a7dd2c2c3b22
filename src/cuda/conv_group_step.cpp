#include "cuda/conv_group_step.h"

#include <algorithm>
#include <map>
#include <string_view>

#include <fmt/format.h>

#include "cuda/depthwise_conv.h"
#include "cuda/hopper/conv_group.h"
#include "cuda/joined_steps.h"
#include "cuda/matrix_call.h"
#include "cuda/matrix_kernels.h"
#include "cuda/packed_weights.h"
#include "cuda/quantized_depthwise.h"
#include "cuda/quantized_hopper_step.h"
#include "cuda/separable_step.h"
#include "ops/conv.h"
#include "ops/quantized_conv.h"
#include "ops/select_anchors.h"

namespace osprey {
namespace {

static_assert(kMostConvsOfAStep <= kMostGroupedConvs && kMostConvsOfAStep <= kMostDepthwise);
// Below it tiles are mostly empty.
constexpr std::int64_t kLeastChannels = 64;
constexpr std::string_view kDenseKey = "dense ", kResidualKey = " coarse residual";

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
          .activation = p.op<Conv>().activation,
          .residual_scale = p.op<Conv>().residual_scale};
}

std::string text_of(const GroupedConv& c) {
  return fmt::format("{}x{}x{}x{}>{}{} {}x{} {}{}", c.images, c.height, c.width, c.channels, c.outputs,
                     c.f32_out ? " f32" : "", c.side, c.side,
                     kActivationNames[static_cast<std::size_t>(c.activation)],
                     c.residual_scale > 1 ? fmt::format(" residual / {}", c.residual_scale) : "");
}

double flops_of(const GroupedConv& c) {
  return 2.0 * static_cast<double>(c.images * c.height * c.width * c.outputs) *
         static_cast<double>(c.side * c.side * c.channels);
}

struct Member {
  GroupedConv conv;
  std::size_t first_in = 0;
  bool residual = false;
  std::shared_ptr<const DeviceBuffer> weight, bias;  // of our own kernel
};

std::vector<Member> members_of(std::span<CudaPrepare* const> prepares, DType type) {
  std::vector<Member> out;
  std::size_t ins = 0;
  for (CudaPrepare* p : prepares) {
    Member m{.conv = described(*p), .first_in = ins, .residual = p->has_input(3), .weight = {}, .bias = {}};
    ins += p->node().inputs.size();
    const bool f32_out = m.conv.f32_out;
    m.weight =
        packed_weight(*p, 1, fmt::format("grouped{} {}", f32_out ? " f32" : "", name_of(type)),
                      [&](const Tensor& f32) { return as_type(grouped_conv_weight(f32, f32_out), type); });
    if (p->has_input(2)) m.bias = packed_vector(*p, 2, DType::kF32);
    out.push_back(std::move(m));
  }
  return out;
}

std::vector<GroupedConv> placed(const std::vector<Member>& members, CudaRun& run) {
  std::vector<GroupedConv> out;
  for (std::size_t i = 0; i < members.size(); ++i) {
    const Member& m = members[i];
    GroupedConv& c = out.emplace_back(m.conv);
    c.x = run.in(m.first_in).data;
    c.weight = m.weight->data();
    c.bias = m.bias ? m.bias->as<float>() : nullptr;
    c.residual = m.residual ? run.in(m.first_in + 3).data : nullptr;
    c.y = run.out(i).data;
  }
  return out;
}

class OwnStep final : public CudaStep {
 public:
  OwnStep(std::span<CudaPrepare* const> members)
      : multiprocessors_(members.front()->device().multiprocessors),
        type_(members.front()->input(0).dtype),
        members_(members_of(members, type_)) {}

  void launch(CudaRun& run) override {
    launch_conv_group(placed(members_, run), type_, multiprocessors_, run.stream());
  }
  std::string detail() const override { return fmt::format("own, {} in one launch", members_.size()); }
  double flops() const override {
    double sum = 0;
    for (const Member& m : members_) sum += flops_of(m.conv);
    return sum;
  }

 private:
  int multiprocessors_;
  DType type_;
  std::vector<Member> members_;
};

// The predictors of a map among a step's members, the one first whose outputs come in fours.
std::vector<std::size_t> predictors_of(const CudaPrepare& map, std::span<CudaPrepare* const> predictors) {
  std::vector<std::size_t> out;
  for (std::size_t i = 0; i < predictors.size(); ++i)
    if (predictors[i]->node().inputs[0] == map.node().outputs[0]) out.push_back(i);
  if (predictors[out.front()]->output(0).dims[1] % 4 != 0) std::swap(out.front(), out.back());
  return out;
}

// Maps, and what predictors make of them, in one launch.
class PredictedStep final : public CudaStep {
 public:
  PredictedStep(std::span<CudaPrepare* const> maps, std::span<CudaPrepare* const> predictors)
      : multiprocessors_(maps.front()->device().multiprocessors),
        type_(maps.front()->input(0).dtype),
        maps_(members_of(maps, type_)) {
    for (const CudaPrepare* map : maps) {
      std::vector<std::size_t>& outs = predictor_outs_.emplace_back();
      for (const std::size_t i : predictors_of(*map, predictors)) outs.push_back(maps.size() + i);
    }
    std::vector<CudaPrepare*> shared;
    for (const std::size_t i : predictor_outs_.front()) shared.push_back(predictors[i - maps.size()]);
    pack(shared);
    for (const CudaPrepare* p : predictors) flops_ += flops_of(described(*p));
    for (const Member& m : maps_) flops_ += flops_of(m.conv);
  }

  void launch(CudaRun& run) override {
    const bool kept = !is_captured(run.stream());
    std::vector<GroupedConv> convs = placed(maps_, run);
    for (std::size_t i = 0; i < convs.size(); ++i) {
      if (!kept) convs[i].y = nullptr;
      convs[i].predictors = shared_;
      for (std::size_t k = 0; k < predictor_outs_[i].size(); ++k)
        convs[i].predictors.y[k] = run.out(predictor_outs_[i][k]).as<float>();
    }
    launch_conv_group(convs, type_, multiprocessors_, run.stream());
  }
  std::string detail() const override {
    return fmt::format("own, {} and their predictors in one launch", maps_.size());
  }
  double flops() const override { return flops_; }

 private:
  void pack(const std::vector<CudaPrepare*>& predictors) {
    std::string key = fmt::format("predictors {}", name_of(type_));
    for (std::size_t k = 0; k < predictors.size(); ++k) {
      shared_.outputs[k] = static_cast<int>(predictors[k]->output(0).dims[1]);
      for (const ValueId in : std::span(predictors[k]->node().inputs).subspan(1))
        key += fmt::format(":{}", in);
    }
    const auto weight = [&](std::size_t k) {
      return k < predictors.size() ? predictors[k]->weight(1).to_f32() : Tensor();
    };
    weight_ = predictors.front()->shared(key, [&] {
      return DeviceBuffer::holding(as_type(grouped_predictor_weight(weight(0), weight(1)), type_).bytes());
    });
    bias_ = predictors.front()->shared(key + " bias", [&] {
      Tensor both = Tensor::zeros(DType::kF32, {kMostPredicted});
      auto to = both.mutable_values<float>().begin();
      for (std::size_t k = 0; k < predictors.size(); to += shared_.outputs[k++])
        if (predictors[k]->has_input(2))
          std::ranges::copy(predictors[k]->weight(2).to_f32().values<float>(), to);
      return DeviceBuffer::holding(both.bytes());
    });
    shared_.weight = weight_->data();
    shared_.bias = bias_->as<float>();
  }

  int multiprocessors_;
  DType type_;
  std::vector<Member> maps_;
  std::vector<std::vector<std::size_t>> predictor_outs_;  // of each map, outputs of the step
  GroupedPredictors shared_;
  std::shared_ptr<const DeviceBuffer> weight_, bias_;
  double flops_ = 0;
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
  std::string out = fmt::format("together {}", name_of(members.front()->input(0).dtype));
  for (const CudaPrepare* p : members) {
    GroupedConv conv = described(*p);
    conv.images /= photos_of(*p);
    out += ", " + text_of(conv);
  }
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
  if (!op || node.inputs.size() > 4 || !graph.weight(node.inputs[1])) return "";
  const bool residual = node.inputs.size() > 3 && node.inputs[3] != kNoValue;
  if (residual && op->residual_scale == 1) return "";
  const TensorType &x = graph.value(node.inputs[0]).type, &y = graph.value(node.outputs[0]).type;
  if (!x.dims[0].is_exact()) return "";
  const Shape weight = weight_dims(graph, node);
  const std::int64_t channels = x.dims[1].constant();
  if (!residual && is_depthwise_step(*op, weight, channels))
    return fmt::format("depthwise {} {}x{} {}", name_of(x.dtype), weight[2], weight[3], op->stride[0]);
  if (device.major != 9 || !is_half(x.dtype) || (y.dtype != x.dtype && y.dtype != DType::kF32) ||
      !takes(*op, weight) || channels % 8 != 0 || channels < kLeastChannels)
    return "";
  if (residual && (y.dtype != x.dtype || weight[0] % 8 != 0)) return "";
  return fmt::format("{}{} {} {}x{}{}", kDenseKey, name_of(x.dtype), name_of(y.dtype), weight[2], weight[3],
                     residual ? kResidualKey : "");
}

bool is_conv_group(const Node& node, const std::string& key) {
  return node.op.as<Conv>() && key.ends_with(kResidualKey);
}

namespace {

// What the convolutions of a group read, and who reads what they make.
class Readers {
 public:
  explicit Readers(const Graph& graph) : graph_(graph) {
    for (const Node& node : graph.nodes())
      for (const ValueId in : node.inputs) readers_[in].push_back(&node);
  }

  // The nodes that predict from what `map` makes; none where somebody else needs it, or they are too large.
  std::vector<const Node*> predictors(const Node& map) const {
    const ValueId made = map.outputs[0];
    const auto it = readers_.find(made);
    if (it == readers_.end() || graph_.is_output(made)) return {};
    std::int64_t outputs = 0;
    bool fours = false;
    for (const Node* node : it->second) {
      if (!is_predictor(*node, made)) return {};
      outputs += channels(node->outputs[0]);
      fours = fours || channels(node->outputs[0]) % 4 == 0;
    }
    return fours && it->second.size() <= 2 && outputs <= kMostPredicted ? it->second
                                                                        : std::vector<const Node*>{};
  }

  bool makes_whole_maps(const Node& node) const {
    return graph_.value(node.outputs[0]).type.dtype == graph_.value(node.inputs[0]).type.dtype &&
           channels(node.outputs[0]) == kPredictedChannels;
  }

 private:
  std::int64_t channels(ValueId id) const { return graph_.value(id).type.dims[1].constant(); }

  bool is_predictor(const Node& node, ValueId made) const {
    const Conv* op = node.op.as<Conv>();
    if (!op || node.inputs[0] != made || op->activation != Activation::kNone ||
        std::count(node.inputs.begin(), node.inputs.end(), made) != 1)
      return false;
    const auto& weight = graph_.value(node.inputs[1]).type.dims;
    return weight[2].constant() == 1 && graph_.value(node.outputs[0]).type.dtype == DType::kF32;
  }

  const Graph& graph_;
  std::map<ValueId, std::vector<const Node*>> readers_;
};

std::vector<ValueId> weights_of(const std::vector<const Node*>& nodes) {
  std::vector<ValueId> out;
  for (const Node* node : nodes) out.insert(out.end(), node->inputs.begin() + 1, node->inputs.end());
  return out;
}

// All that predicts from a group's maps, with the same weights for each; none where one launch cannot.
std::vector<const Node*> predictors_of(const Readers& readers, const std::vector<const Node*>& maps) {
  std::vector<const Node*> out;
  std::vector<ValueId> weights;
  for (const Node* map : maps) {
    const auto predictors = readers.makes_whole_maps(*map) ? readers.predictors(*map) : out;
    if (!readers.makes_whole_maps(*map) || predictors.empty()) return {};
    if (map == maps.front()) weights = weights_of(predictors);
    if (weights_of(predictors) != weights) return {};
    out.insert(out.end(), predictors.begin(), predictors.end());
  }
  return out;
}

}  // namespace

void join_predictors(const Graph& graph, const CudaDevice& device,
                     std::vector<std::vector<const Node*>>& groups) {
  const Readers readers(graph);
  const auto key = [&](const Node* node) { return conv_group_key(graph, *node, device); };
  const auto is_dense = [&](const Node* node) { return key(node).starts_with(kDenseKey); };
  for (std::size_t i = 0; i < groups.size(); ++i) {
    if (!std::ranges::all_of(groups[i], is_dense)) continue;
    const std::vector<const Node*> found = predictors_of(readers, groups[i]);
    if (found.empty() || !std::ranges::all_of(found, is_dense)) continue;
    const auto of_them = [&](const std::vector<const Node*>& group) {
      return group.size() == found.size() && std::ranges::is_permutation(group, found);
    };
    const auto theirs = std::ranges::find_if(groups, of_them);
    if (theirs == groups.end()) continue;
    groups[i].insert(groups[i].end(), found.begin(), found.end());
    groups.erase(theirs);  // behind group i, since it waits for it
  }
}

namespace {

// How many members come before those that read what they make.
std::size_t count_maps(std::span<CudaPrepare* const> members) {
  std::vector<ValueId> made;
  for (std::size_t i = 0; i < members.size(); ++i) {
    if (std::ranges::count(made, members[i]->node().inputs[0]) > 0) return i;
    made.push_back(members[i]->node().outputs[0]);
  }
  return members.size();
}

}  // namespace

std::unique_ptr<CudaStep> conv_group_step(std::span<CudaPrepare* const> members,
                                          const std::function<std::unique_ptr<CudaStep>(CudaPrepare&)>& each,
                                          const std::function<std::size_t()>& scratch) {
  if (is_separable(members))
    return separable_step(
        members, [&](std::span<CudaPrepare* const> some) { return conv_group_step(some, each, scratch); },
        each, scratch);
  const CudaPrepare& first = *members.front();
  if (const auto* op = first.node().op.as<QuantizedConv>()) {
    if (is_quantized_depthwise(*op, first.input(1).dims, first.input(0).dims[1]))
      return quantized_depthwise_step(members);
    if (members.back()->node().op.as<SelectAnchors>()) {
      if (auto own = selected_scores_step(members)) return own;
      const auto convs = members.first(members.size() - 1), selection = members.last(1);
      auto out = std::make_unique<InTurnStep>();
      out->add(conv_group_step(convs, each, scratch), convs);
      out->add(each(*selection.front()), selection);
      return out;
    }
    if (auto own = quantized_group_step(members)) return own;
    return each_in_turn(members, each);
  }
  if (is_depthwise_step(first.op<Conv>(), first.input(1).dims, first.input(0).dims[1]))
    return depthwise_conv_step(members);
  const bool possible = std::all_of(members.begin(), members.end(),
                                    [](const CudaPrepare* p) { return can_group(described(*p)); });
  if (const std::size_t count = count_maps(members); count < members.size()) {
    const auto maps = members.first(count), predictors = members.subspan(count);
    const MakeStep in_turn = [&] {
      auto out = std::make_unique<InTurnStep>();
      out->add(conv_group_step(maps, each, scratch), maps);
      out->add(conv_group_step(predictors, each, scratch), predictors);
      return out;
    };
    if (!possible) return in_turn();
    return faster(
        members, "predicting " + key_of(members),
        [&] { return std::make_unique<PredictedStep>(maps, predictors); }, in_turn, scratch);
  }
  const MakeStep one_by_one = [&] { return each_in_turn(members, each); };
  if (!possible) return one_by_one();
  return faster(
      members, key_of(members), [&] { return std::make_unique<OwnStep>(members); }, one_by_one, scratch);
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
