#include "cuda/separable_step.h"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "cuda/conv_group_step.h"
#include "cuda/early_launch.h"
#include "cuda/joined_steps.h"
#include "cuda/matrix_call.h"
#include "cuda/packed_weights.h"
#include "cuda/separable_conv.h"
#include "cuda/weighted_sum.h"
#include "ops/conv.h"
#include "ops/max_pool.h"
#include "ops/weighted_sum.h"

namespace osprey {
namespace {

using Group = std::vector<const Node*>;

static_assert(kMostConvsOfAStep <= kMostSeparable);

std::int64_t extent(const Graph& graph, ValueId id, std::size_t axis) {
  return graph.value(id).type.dims[axis].constant();
}

bool is_half(const Graph& graph, ValueId id) { return graph.value(id).type.dtype == DType::kF16; }

bool reads_and_makes_halves(const Graph& graph, const Node& node) {
  return is_half(graph, node.inputs[0]) && is_half(graph, node.outputs[0]) &&
         graph.value(node.inputs[0]).type.dims[0].is_exact();
}

bool is_depthwise(const Graph& graph, const Node& node) {
  const Conv* op = node.op.as<Conv>();
  if (!op || node.inputs.size() > 3 || !reads_and_makes_halves(graph, node)) return false;
  const std::int64_t channels = extent(graph, node.inputs[0], 1);
  return op->groups == channels && extent(graph, node.inputs[1], 0) == channels && channels % 8 == 0 &&
         extent(graph, node.inputs[1], 2) == 3 && extent(graph, node.inputs[1], 3) == 3 &&
         op->stride[0] == op->stride[1] && op->stride[0] <= 2 && op->dilation == std::vector<int>{1, 1};
}

bool is_second(const Graph& graph, const Node& node) {
  if (!is_pointwise(graph, node) || node.inputs.size() > 4) return false;
  const bool scores =
      node.op.as<Conv>()->f32_out && node.inputs.size() <= 3 && is_half(graph, node.inputs[0]);
  return (scores || reads_and_makes_halves(graph, node)) &&
         extent(graph, node.inputs[1], 0) % (scores ? 2 : 8) == 0;
}

bool is_sum(const Graph& graph, const Node& node) {
  const WeightedSum* op = node.op.as<WeightedSum>();
  return op && reads_and_makes_halves(graph, node) && op->maps(node.inputs.size()) <= kMostSeparableSources;
}

bool is_pooling(const Graph& graph, const Node& node) {
  const MaxPool* op = node.op.as<MaxPool>();
  return op && reads_and_makes_halves(graph, node) && op->kernel == std::vector<int>{3, 3} &&
         op->stride == std::vector<int>{2, 2};
}

// Which group makes what.
class Joining {
 public:
  Joining(const Graph& graph, const std::vector<Group>& groups) : graph_(graph), groups_(groups) {
    for (std::size_t i = 0; i < groups.size(); ++i)
      for (const Node* node : groups[i])
        for (const ValueId out : node->outputs) made_in_[out] = i;
  }

  // What group i becomes; itself where nothing is joined to it.
  Group joined(std::size_t i) const {
    const Group& depthwise = groups_[i];
    if (!std::ranges::all_of(depthwise, [&](const Node* node) { return is_depthwise(graph_, *node); }))
      return depthwise;
    Group pointwise;
    for (const Node* node : depthwise) {
      const Node* reader = sole_reader(graph_, node->outputs[0]);
      if (!reader || !is_second(graph_, *reader) || !others_are_ready(*reader, i)) return depthwise;
      pointwise.push_back(reader);
    }
    Group out = depthwise.size() == 1 ? before(*depthwise.front()) : Group{};
    out.insert(out.end(), depthwise.begin(), depthwise.end());
    out.insert(out.end(), pointwise.begin(), pointwise.end());
    return out;
  }

 private:
  // Whether a 1x1 convolution of a group's maps can run with that group: it reads them as x alone, and what
  // else it reads is made before.
  bool others_are_ready(const Node& pointwise, std::size_t group) const {
    return std::ranges::all_of(std::span(pointwise.inputs).subspan(1), [&](ValueId id) {
      const auto it = made_in_.find(id);
      return it == made_in_.end() || it->second < group;
    });
  }

  // The sum that a depthwise convolution alone reads, behind the pooling of its last map.
  Group before(const Node& depthwise) const {
    const Node* sum = graph_.producer(depthwise.inputs[0]);
    const Conv& op = *depthwise.op.as<Conv>();
    if (!sum || !is_sum(graph_, *sum) || !sole_reader(graph_, sum->outputs[0]) || op.stride[0] != 1)
      return {};
    Group out{sum};
    const std::size_t last = sum->op.as<WeightedSum>()->maps(sum->inputs.size()) - 1;
    const Node* pooling = graph_.producer(sum->inputs[last]);
    if (pooling && is_pooling(graph_, *pooling) && sole_reader(graph_, pooling->outputs[0]))
      out.insert(out.begin(), pooling);
    return out;
  }

  const Graph& graph_;
  const std::vector<Group>& groups_;
  std::map<ValueId, std::size_t> made_in_;
};

// The members of a step by what they are; the 1x1 convolutions are as many as the depthwise ones.
struct Parts {
  std::span<CudaPrepare*const> before, depthwise, pointwise;
  std::size_t first_depthwise_in, first_pointwise_in;

  explicit Parts(std::span<CudaPrepare* const> members) {
    const auto first = std::ranges::find_if(
        members, [](const CudaPrepare* p) { return p->node().op.as<Conv>() != nullptr; });
    before = members.first(static_cast<std::size_t>(first - members.begin()));
    const std::span<CudaPrepare* const> convs = members.subspan(before.size());
    depthwise = convs.first(convs.size() / 2);
    pointwise = convs.subspan(convs.size() / 2);
    first_depthwise_in = inputs_of(before);
    first_pointwise_in = first_depthwise_in + inputs_of(depthwise);
  }

  // Inputs and outputs of the step that are a member's first ones.
  std::size_t depthwise_in(std::size_t i) const { return first_depthwise_in + inputs_of(depthwise.first(i)); }
  std::size_t pointwise_in(std::size_t i) const { return first_pointwise_in + inputs_of(pointwise.first(i)); }
  std::size_t depthwise_out(std::size_t i) const { return before.size() + i; }
  std::size_t pointwise_out(std::size_t i) const { return before.size() + depthwise.size() + i; }
};

// Without pointers.
SeparableConv described(const CudaPrepare& depthwise, const CudaPrepare& pointwise) {
  const Conv &first = depthwise.op<Conv>(), &second = pointwise.op<Conv>();
  const Shape &x = depthwise.input(0).dims, &y = pointwise.output(0).dims;
  const auto pads = first.window(3, 3).pads_of(x[2], x[3]);
  SeparableConv out{.images = x[0], .height = x[2], .width = x[3], .channels = x[1]};
  out.out_height = y[2], out.out_width = y[3], out.outputs = y[1];
  out.stride = first.stride[0], out.top = pads[0], out.left = pads[1];
  out.between_activation = first.activation, out.activation = second.activation;
  out.f32_out = pointwise.output(0).dtype == DType::kF32;
  return out;
}

void describe_sum(std::span<CudaPrepare* const> before, SeparableConv& conv) {
  const CudaPrepare& sum = *before.back();
  const WeightedSum& op = sum.op<WeightedSum>();
  const std::vector<float> shares = shares_of(sum);
  conv.sum_activation = op.activation;
  for (std::size_t i = 0; i < shares.size(); ++i) {
    const Shape& map = sum.input(i).dims;
    conv.sources.push_back({.height = map[2], .width = map[3], .share = shares[i], .scale = op.scale(i)});
  }
  if (before.size() == 1) return;
  const Shape& pooled = before.front()->input(0).dims;
  const auto pads = before.front()->op<MaxPool>().window().pads_of(pooled[2], pooled[3]);
  SeparableSource& last = conv.sources.back();
  last.height = pooled[2], last.width = pooled[3], last.pooled = true, last.top = pads[0],
  last.left = pads[1];
}

std::vector<SeparableConv> described(const Parts& parts) {
  std::vector<SeparableConv> out;
  for (std::size_t i = 0; i < parts.depthwise.size(); ++i)
    out.push_back(described(*parts.depthwise[i], *parts.pointwise[i]));
  if (!parts.before.empty()) describe_sum(parts.before, out.front());
  return out;
}

class OwnStep final : public CudaStep {
 public:
  explicit OwnStep(const Parts& parts)
      : multiprocessors_(parts.depthwise.front()->device().multiprocessors),
        shared_bytes_(static_cast<int>(parts.depthwise.front()->device().shared_bytes_optin)),
        early_(may_launch_early(parts.depthwise.front()->device())),
        befores_(parts.before.size()) {
    const std::vector<SeparableConv> convs = described(parts);
    for (std::size_t i = 0; i < convs.size(); ++i) {
      const CudaPrepare &depthwise = *parts.depthwise[i], &pointwise = *parts.pointwise[i];
      const std::string type(name_of(DType::kF16));
      Member& m = members_.emplace_back(convs[i]);
      m.in = parts.depthwise_in(i), m.between_out = parts.depthwise_out(i), m.out = parts.pointwise_out(i);
      if (pointwise.has_input(3)) m.residual_in = parts.pointwise_in(i) + 3;
      m.taps = packed_weight(depthwise, 1, "taps first " + type, [](const Tensor& f32) {
        return as_type(permuted(f32, {2, 3, 1, 0}), DType::kF16);
      });
      m.weight = packed_weight(pointwise, 1, "channels last " + type, [](const Tensor& f32) {
        return as_type(permuted(f32, {0, 2, 3, 1}), DType::kF16);
      });
      if (depthwise.has_input(2)) m.between_bias = packed_vector(depthwise, 2, DType::kF32);
      if (pointwise.has_input(2)) m.bias = packed_vector(pointwise, 2, DType::kF32);
    }
    if (befores_ > 0) sum_in_ = inputs_of(parts.before.first(befores_ - 1));
  }

  void launch(CudaRun& run) override {
    const bool kept = !is_captured(run.stream());
    std::vector<SeparableConv> convs;
    for (const Member& m : members_) convs.push_back(placed(m, run, kept));
    launch_separable_convs(convs, {.multiprocessors = multiprocessors_,
                                   .shared_bytes = shared_bytes_,
                                   .early = early_,
                                   .stream = run.stream()});
  }
  std::string detail() const override {
    return fmt::format("own separable{}, {} in one launch", befores_ > 0 ? " of a sum" : "", members_.size());
  }
  double flops() const override {
    double sum = 0;
    for (const Member& m : members_)
      sum += 2.0 *
             static_cast<double>(m.conv.images * m.conv.out_height * m.conv.out_width * m.conv.channels) *
             static_cast<double>(9 + m.conv.outputs);
    return sum;
  }

 private:
  struct Member {
    SeparableConv conv;
    std::size_t in = 0, residual_in = 0, between_out = 0, out = 0;  // of the step; 0: no residual
    std::shared_ptr<const DeviceBuffer> taps, between_bias, weight, bias;
    explicit Member(const SeparableConv& c) : conv(c) {}
  };

  SeparableConv placed(const Member& m, CudaRun& run, bool kept) const {
    const auto floats = [](const auto& buffer) { return buffer ? buffer->template as<float>() : nullptr; };
    SeparableConv out = m.conv;
    out.taps = m.taps->data(), out.weight = m.weight->data();
    out.between_bias = floats(m.between_bias), out.bias = floats(m.bias);
    if (m.residual_in > 0) out.residual = run.in(m.residual_in).data;
    if (kept) out.between = run.out(m.between_out).data;
    out.y = run.out(m.out).data;
    if (befores_ == 0) {
      out.x = run.in(m.in).data;
      return out;
    }
    for (std::size_t i = 0; i < out.sources.size(); ++i) {
      SeparableSource& source = out.sources[i];
      source.map = source.pooled ? run.in(0).data : run.in(sum_in_ + i).data;
      if (kept && source.pooled) source.pooled_map = run.out(0).data;
    }
    if (kept) out.sum = run.out(befores_ - 1).data;
    return out;
  }

  int multiprocessors_, shared_bytes_;
  bool early_;
  std::size_t befores_, sum_in_ = 0;
  std::vector<Member> members_;
};

// Of one photo, whatever the batch: what a photo gives must not depend on those beside it.
std::string key_of(const Parts& parts, const std::vector<SeparableConv>& convs) {
  const auto name = [](Activation a) { return kActivationNames[static_cast<std::size_t>(a)]; };
  const std::int64_t photos = photos_of(*parts.depthwise.front());
  std::string out = "separable";
  for (std::size_t i = 0; i < convs.size(); ++i) {
    const SeparableConv& c = convs[i];
    out += fmt::format(", {}x{}x{}x{}/{} {}>{}{} {}{}", c.images / photos, c.height, c.width, c.channels,
                       c.stride, name(c.between_activation), c.outputs, c.f32_out ? " f32" : "",
                       name(c.activation), parts.pointwise[i]->has_input(3) ? " residual" : "");
    for (const SeparableSource& s : c.sources)
      out += s.pooled ? std::string(" pooled") : fmt::format(" x{}", s.scale);
  }
  return out;
}

}  // namespace

void join_separable(const Graph& graph, std::vector<Group>& groups) {
  const Joining joining(graph, groups);
  std::vector<Group> out;
  std::set<const Node*> joined;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    out.push_back(joining.joined(i));
    if (out.back().size() > groups[i].size()) joined.insert(out.back().begin(), out.back().end());
  }
  // Members are elsewhere no longer; what came before a group still does, since only it reads that.
  for (std::size_t i = 0; i < out.size(); ++i)
    if (out[i].size() == groups[i].size())
      std::erase_if(out[i], [&](const Node* node) { return joined.contains(node); });
  std::erase_if(out, [](const Group& group) { return group.empty(); });
  groups = std::move(out);
}

bool is_separable(std::span<CudaPrepare* const> members) {
  const Node &first = members.front()->node(), &last = members.back()->node();
  if (!last.op.as<Conv>()) return false;
  if (!first.op.as<Conv>()) return true;
  return first.op.as<Conv>()->groups > 1 && last.op.as<Conv>()->groups == 1;
}

namespace {

// Whether convolutions may be a group of their own (cuda/conv_group_step.h).
bool may_group(std::span<CudaPrepare* const> convs) {
  const auto key = [](const CudaPrepare* p) { return conv_group_key(p->graph(), p->node(), p->device()); };
  const std::string first = key(convs.front());
  return convs.size() > 1 && !first.empty() &&
         std::ranges::all_of(convs, [&](const CudaPrepare* p) { return key(p) == first; });
}

}  // namespace

std::unique_ptr<CudaStep> separable_step(
    std::span<CudaPrepare* const> members,
    const std::function<std::unique_ptr<CudaStep>(std::span<CudaPrepare* const>)>& in_turn,
    const std::function<std::unique_ptr<CudaStep>(CudaPrepare&)>& each,
    const std::function<std::size_t()>& scratch) {
  const Parts parts(members);
  const MakeStep apart = [&] {
    auto out = std::make_unique<InTurnStep>();
    out->add_each(parts.before, each);
    // The 1x1 ones need not be of one kind, nor of one that this device groups.
    for (const auto& convs : {parts.depthwise, parts.pointwise}) {
      if (may_group(convs))
        out->add(in_turn(convs), convs);
      else
        out->add_each(convs, each);
    }
    return out;
  };
  const std::vector<SeparableConv> convs = described(parts);
  const auto takes = [&](const SeparableConv& c) {
    return can_separate(c) && c.f32_out == convs.front().f32_out;
  };
  if (!std::ranges::all_of(convs, takes)) return apart();
  return faster(
      members, key_of(parts, convs), [&] { return std::make_unique<OwnStep>(parts); }, apart, scratch);
}

}  // namespace osprey
