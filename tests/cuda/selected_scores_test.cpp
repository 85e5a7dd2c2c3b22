// Which selections a plan joins to the convolutions that make their scores, and that it selects with them
// what it selects without.
#include "cuda/conv_group_step.h"
#include "cuda/cuda_harness.h"
#include "cuda/executor.h"
#include "cuda/integer_results.h"
#include "cuda/quantized_hopper_step.h"
#include "cuda/schedule.h"
#include "ops/quantized_conv.h"
#include "ops/select_anchors.h"

namespace osprey {
namespace {

constexpr std::int64_t kChannels = 64;
constexpr int kAnchors = 3;

struct Head {
  std::int64_t images = 2;
  std::vector<std::int64_t> sides{20, 10, 3};
  int classes = 8;
  bool has_threshold = true;
  bool watched = false;  // a level of scores is an output
  Activation activation = Activation::kNone;
};

SelectAnchors selection(const Head& head) {
  SelectAnchors op{.strides = {}, .anchors = kAnchors, .classes = head.classes, .top = 70};
  op.activation = Activation::kSigmoid, op.has_threshold = head.has_threshold, op.threshold = 0.6f;
  op.clip = false, op.drop_empty = false, op.group = AnchorGroup::kClass;
  for (std::size_t l = 0; l < head.sides.size(); ++l) {
    op.strides.push_back(8 << l);
    for (int a = 0; a < kAnchors; ++a) {
      const auto side = static_cast<float>((8 << l) * (a + 1));
      op.cells.insert(op.cells.end(), {-side, -side, side, side});
    }
  }
  return op;
}

// Scores and boxes of levels of a head that shares its weights.
Graph head_graph(const Head& head) {
  Graph out("head");
  const auto weight = [&](const std::string& name, std::int64_t outputs, unsigned seed) {
    const ValueId kernel =
        out.add_weight(name, random_integers(DType::kI8, {outputs, kChannels, 3, 3}, seed));
    const ValueId scale = out.add_weight(name + ".scale", random_tensor({outputs}, 2e-4f, 6e-4f, seed + 1));
    const ValueId bias = out.add_weight(name + ".bias", random_tensor({outputs}, -1, 1, seed + 2));
    return std::vector<ValueId>{kernel, scale, bias};
  };
  const auto scores = weight("scores", kAnchors * head.classes, 1), boxes = weight("boxes", kAnchors * 4, 9);
  std::vector<ValueId> in;
  for (std::size_t l = 0; l < head.sides.size(); ++l) {
    const Dim side(head.sides[l]);
    const std::string level = std::to_string(l);
    const ValueId x =
        out.add_input("x" + level, {DType::kU8, {Dim(head.images), Dim(kChannels), side, side}});
    const auto predict = [&](const std::vector<ValueId>& constants, const std::string& name,
                             Activation activation) {
      std::vector<ValueId> inputs{x};
      inputs.insert(inputs.end(), constants.begin(), constants.end());
      return out
          .add_node(
              QuantizedConv{
                  .pads = {1, 1, 1, 1}, .activation = activation, .to = StoredType::kF32, .x_scale = 0.02f},
              inputs, name + level)
          .outputs[0];
    };
    in.push_back(predict(scores, "scores", head.activation));
    in.push_back(predict(boxes, "boxes", Activation::kNone));
    if (head.watched && l == 0) out.add_output(in.front());
  }
  in.push_back(out.add_input("geometry", {DType::kF32, {Dim(head.images), Dim(6)}}));
  for (const ValueId id : out.add_node(selection(head), in, "select").outputs) out.add_output(id);
  return out;
}

std::size_t largest_step(const Head& head) {
  const Graph graph = head_graph(head);
  const CudaDevice hopper{.major = 9};
  auto groups = scheduled(
      graph, [&](const Node& node) { return conv_group_key(graph, node, hopper); }, kMostConvsOfAStep);
  join_selections(graph, hopper, groups);
  std::size_t most = 0;
  for (const auto& group : groups) most = std::max(most, group.size());
  return most;
}

TEST(CudaSelectedScores, WhatAPlanJoins) {
  EXPECT_EQ(largest_step({}), 7u);
  EXPECT_EQ(largest_step({.has_threshold = false}), 6u) << "all scores may be among the best";
  EXPECT_EQ(largest_step({.watched = true}), 6u) << "scores are wanted";
  EXPECT_EQ(largest_step({.activation = Activation::kSigmoid}), 6u) << "scores are no sums";
  EXPECT_EQ(largest_step({.classes = 7}), 6u) << "scores that are no multiple of four";
}

void expect_as_apart(const Head& head, const RunParameters& parameters, const std::string& what) {
  const auto graph = std::make_shared<const Graph>(head_graph(head));
  std::map<std::string, Tensor> inputs;
  for (std::size_t l = 0; l < head.sides.size(); ++l)
    inputs["x" + std::to_string(l)] = random_integers(
        DType::kU8, {head.images, kChannels, head.sides[l], head.sides[l]}, 30 + static_cast<unsigned>(l));
  std::vector<float> geometry;
  for (std::int64_t n = 0; n < head.images; ++n) geometry.insert(geometry.end(), {160, 160, 1, 1, 160, 160});
  inputs["geometry"] = tensor_of<float>(geometry, {head.images, 6});
  const auto joined = make_cuda_executor(graph, {.tuning_budget = 0})->cuda_session(),
             apart = make_cuda_executor(graph, {.keep_values = true, .tuning_budget = 0})->cuda_session();
  const RunOptions options{.parameters = parameters};
  apart->run_tensors(inputs, options);
  joined->run_tensors(inputs, options);
  joined->replay(1);  // in a graph, where scores are there in part
  for (const ValueId id : graph->outputs()) {
    const std::string& name = graph->value(id).name;
    const Tensor got = joined->value(name), want = apart->value(name);
    ASSERT_EQ(got.shape(), want.shape()) << what << ": " << name;
    EXPECT_TRUE(std::ranges::equal(got.bytes(), want.bytes())) << what << ": " << name;
  }
}

TEST(CudaSelectedScores, AsWithAllScores) {
  SKIP_WITHOUT_GPU();
  expect_as_apart({}, {}, "some");
  expect_as_apart({}, {.score_threshold = 0.95f}, "few");
  expect_as_apart({}, {.score_threshold = 0.9999f}, "none");
  expect_as_apart({}, {.score_threshold = 0}, "all");
  expect_as_apart({.images = 1, .sides = {1}, .classes = 4}, {}, "one pixel");
  expect_as_apart({.images = 3, .sides = {33, 17, 9, 5, 3}, .classes = 80}, {}, "as RetinaNet's");
  // More than are listed at once, so that scores are read again.
  expect_as_apart({.images = 1, .sides = {64, 32}, .classes = 80}, {.score_threshold = 0.1f}, "many");
}

}  // namespace
}  // namespace osprey
