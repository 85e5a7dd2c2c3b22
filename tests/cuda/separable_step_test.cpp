// Which nodes a plan joins to separable convolutions, and that it gives with them what it gives without.
#include "cuda/separable_step.h"

#include <fmt/format.h>

#include "cuda/conv_group_step.h"
#include "cuda/cuda_harness.h"
#include "cuda/executor.h"
#include "cuda/schedule.h"
#include "ops/conv.h"
#include "ops/max_pool.h"
#include "ops/weighted_sum.h"

namespace osprey {
namespace {

constexpr std::int64_t kChannels = 16;

class Builder {
 public:
  Graph graph{"separable"};

  ValueId map(const char* name, std::int64_t side) {
    return graph.add_input(name, {DType::kF16, {Dim(1), Dim(kChannels), Dim(side), Dim(side)}});
  }
  ValueId weight(const std::string& name, std::int64_t inputs, std::int64_t side) {
    return graph.add_weight(
        name, rounded_to(random_tensor({kChannels, inputs, side, side}, -0.4f, 0.4f, ++seed_), DType::kF16));
  }
  ValueId add(Op op, std::vector<ValueId> inputs, const std::string& name) {
    return graph.add_node(std::move(op), std::move(inputs), name).outputs[0];
  }
  ValueId depthwise(ValueId x, ValueId taps, const std::string& name) {
    return add(Conv{.padding = Padding::kSame, .groups = static_cast<int>(kChannels)}, {x, taps}, name);
  }
  ValueId pointwise(ValueId x, ValueId points, const std::string& name, std::optional<ValueId> residual) {
    std::vector<ValueId> inputs{x, points};
    if (residual) inputs.insert(inputs.end(), {kNoValue, *residual});
    return add(Conv{.activation = Activation::kRelu}, inputs, name);
  }
  ValueId pair(ValueId x, const std::string& name, std::optional<ValueId> residual) {
    return pointwise(depthwise(x, weight(name + ".taps", 1, 3), name + ".dw"),
                     weight(name + ".points", kChannels, 1), name + ".pw", residual);
  }
  ValueId scores(ValueId x, const std::string& name) {
    return add(
        Conv{.f32_out = true},
        {depthwise(x, weight(name + ".taps", 1, 3), name + ".dw"), weight(name + ".points", kChannels, 1)},
        name + ".pw");
  }
  void output(ValueId id) { graph.add_output(id); }

 private:
  std::uint32_t seed_ = 0;
};

// A pyramid's node (pooling, sum, separable convolution), a head on two levels, an inverted residual, scores,
// and a depthwise convolution that two convolutions read.
Graph network() {
  Builder b;
  const ValueId fine = b.map("fine", 16), coarse = b.map("coarse", 8);
  const ValueId pooled = b.add(MaxPool{.padding = Padding::kSame}, {fine}, "pool");
  const ValueId sum =
      b.add(WeightedSum{.normalize = false, .activation = Activation::kSwish}, {coarse, pooled}, "sum");
  const ValueId node = b.pair(sum, "node", {});
  const ValueId taps = b.weight("head.taps", 1, 3), points = b.weight("head.points", kChannels, 1);
  for (const auto& [level, x] : {std::pair("0", fine), std::pair("1", node)})
    b.output(b.pointwise(b.depthwise(x, taps, std::string("head.dw") + level), points,
                         std::string("head.pw") + level, {}));
  const ValueId residual = b.pair(node, "residual", node);
  b.output(residual);
  b.output(b.scores(residual, "scores"));
  const ValueId shared = b.depthwise(coarse, b.weight("shared.taps", 1, 3), "shared.dw");
  for (const char* name : {"left", "right"})
    b.output(b.pointwise(shared, b.weight(name, kChannels, 1), name, {}));
  return std::move(b.graph);
}

// A block's convolutions and scores at the same depth, whose depthwise convolutions are one group, but whose
// 1x1 ones cannot be one launch.
Graph of_several_types() {
  Builder b;
  const ValueId fine = b.map("fine", 16), coarse = b.map("coarse", 8);
  b.output(b.pair(fine, "block", {}));
  b.output(b.pair(coarse, "residual", coarse));
  b.output(b.scores(fine, "scores"));
  return std::move(b.graph);
}

std::vector<std::string> joined(const Graph& graph) {
  auto groups = scheduled(
      graph, [&](const Node& node) { return conv_group_key(graph, node, {}); }, kMostConvsOfAStep);
  join_separable(graph, groups);
  std::vector<std::string> out;
  for (const auto& group : groups) {
    std::string& text = out.emplace_back();
    for (const Node* node : group) text += (text.empty() ? "" : "+") + node->name;
  }
  return out;
}

TEST(CudaSeparableStep, WhatAPlanJoins) {
  const std::vector<std::string> groups = joined(network());
  const auto has = [&](const char* text) { return std::ranges::count(groups, text) == 1; };
  EXPECT_TRUE(has("pool+sum+node.dw+node.pw"));
  EXPECT_TRUE(has("head.dw0+head.dw1+residual.dw+head.pw0+head.pw1+residual.pw") ||
              (has("head.dw0+head.dw1+head.pw0+head.pw1") && has("residual.dw+residual.pw")))
      << fmt::format("{}", fmt::join(groups, " | "));
  EXPECT_TRUE(has("scores.dw+scores.pw"));
  EXPECT_TRUE(has("left"));
  EXPECT_TRUE(has("right"));
}

TEST(CudaSeparableStep, OfSeveralTypes) {
  EXPECT_EQ(joined(of_several_types()),
            std::vector<std::string>{"block.dw+residual.dw+scores.dw+block.pw+residual.pw+scores.pw"});
}

// `between`: what lies between can be looked at all the same.
void expect_as_apart(Graph of, const std::vector<std::string>& between) {
  const auto graph = std::make_shared<const Graph>(std::move(of));
  const auto input = [](std::int64_t side) {
    return rounded_to(random_tensor({1, kChannels, side, side}, -2, 2, static_cast<std::uint32_t>(side)),
                      DType::kF16);
  };
  const std::map<std::string, Tensor> inputs{{"fine", input(16)}, {"coarse", input(8)}};
  const auto joined = make_cuda_executor(graph, {.tuning_budget = 0})->cuda_session(),
             apart = make_cuda_executor(graph, {.keep_values = true, .tuning_budget = 0})->cuda_session();
  RunOptions options{.wanted = between};
  std::map<std::string, Tensor> seen;
  options.observe = [&](const std::string& name, const Tensor& value) { seen[name] = value.copied(); };
  joined->run_tensors(inputs, options);
  apart->run_tensors(inputs, {});
  for (const std::string& name : between) expect_close({seen.at(name)}, {apart->value(name)}, 0x1p-10, name);
  for (const ValueId id : graph->outputs()) {
    const std::string& name = graph->value(id).name;
    const Tensor eager = joined->value(name).copied();
    expect_close({eager}, {apart->value(name)}, 0x1p-9, name);
    joined->replay(1);
    EXPECT_TRUE(std::ranges::equal(joined->value(name).bytes(), eager.bytes())) << name << " in a graph";
  }
}

TEST(CudaSeparableStep, InAPlan) {
  SKIP_WITHOUT_GPU();
  expect_as_apart(network(), {"pool", "sum", "node.dw"});
  expect_as_apart(of_several_types(), {"block.dw", "scores.dw"});
}

}  // namespace
}  // namespace osprey
