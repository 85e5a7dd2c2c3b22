#include "ops/select_anchors.h"

#include <cmath>
#include <limits>

#include "cpu/select_anchors_cases_test.h"
#include "cuda/box_cases.h"

namespace osprey {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

using Sizes = std::vector<std::pair<std::int64_t, std::int64_t>>;

// The CPU's exp is off by a last place once in 1,600 numbers (measured, glibc 2.36), the device's is not:
// moves scores to where both agree, since equal sigmoids decide about the order.
void avoid_misrounded_exp(Tensor& scores) {
  const auto off = [](float v) { return std::exp(-v) != static_cast<float>(std::exp(-double{v})); };
  for (float& v : scores.mutable_values<float>())
    while (off(v)) v = std::nextafter(v, kInf);
}

std::vector<AnchorLevel> random_maps(const SelectAnchors& op, std::int64_t images, const Sizes& sizes,
                                     float low = -6, float high = 3) {
  std::vector<AnchorLevel> out = random_anchor_levels(op, images, sizes, low, high);
  if (op.activation == Activation::kSigmoid)
    for (AnchorLevel& level : out) avoid_misrounded_exp(level.scores);
  return out;
}

void expect_as_on_cpu(const SelectAnchors& op, const std::vector<AnchorLevel>& levels,
                      const std::string& what, RunParameters parameters = {}) {
  KernelCase test{.op = op, .inputs = {}, .threads = 2, .parameters = parameters};
  for (const AnchorLevel& level : levels) {
    test.inputs.push_back({level.scores});
    test.inputs.push_back({level.deltas});
  }
  test.inputs.push_back({rows_tensor(geometry_of(levels[0].scores.dim(0)))});
  expect_same_selection(test, what);
}

TEST(CudaSelectAnchors, ShapesAndCounts) {
  SKIP_WITHOUT_GPU();
  const std::vector<Sizes> shapes{{{1, 1}},
                                  {{5, 7}, {1, 3}},
                                  {{25, 40}, {13, 20}, {7, 10}},
                                  {{61, 33}, {1, 1}},
                                  {{50, 50}, {25, 25}, {13, 13}, {7, 7}, {4, 4}}};
  for (const Sizes& sizes : shapes)
    for (const std::int64_t images : {1, 2, 3})
      for (const int top : {1, 31, 32, 60, 1000})
        for (SelectAnchors op : {proposals(sizes.size()), dense(sizes.size())}) {
          op.top = top;
          expect_as_on_cpu(op, random_maps(op, images, sizes),
                           fmt::format("{} levels from {} x {}, {} images, top {}, {} classes", sizes.size(),
                                       sizes[0].first, sizes[0].second, images, top, op.classes));
        }
}

TEST(CudaSelectAnchors, MoreThanSharedMemorySorts) {
  SKIP_WITHOUT_GPU();
  take_as_small(150000);
  SelectAnchors op = proposals(2);
  op.top = 5000;
  expect_as_on_cpu(op, random_maps(op, 2, {{60, 70}, {20, 30}}), "top 5000");
}

// Many blocks, and lists that overflow: the scores themselves are then searched.
TEST(CudaSelectAnchors, LargeLevelsAndTies) {
  SKIP_WITHOUT_GPU();
  take_as_small(400000);
  SelectAnchors op = proposals(1);
  op.top = 1000;
  std::vector<AnchorLevel> levels = random_maps(op, 1, {{141, 173}});
  expect_as_on_cpu(op, levels, "random scores");
  const auto scores = levels[0].scores.mutable_values<float>();
  for (float& v : scores) v = std::floor(v);
  expect_as_on_cpu(op, levels, "few different scores");
  for (float& v : scores) v = v * 1e-7f + 1;
  expect_as_on_cpu(op, levels, "scores that differ in their last bits");
  for (std::size_t i = 0; i < scores.size(); ++i) scores[i] = i % 2 ? 0.0f : -0.0f;
  expect_as_on_cpu(op, levels, "zeros of both signs");
  for (float& v : scores) v = -7.25f;
  expect_as_on_cpu(op, levels, "all the same");
}

// Thresholds that leave few, just as many as are listed at once, more, and nothing.
TEST(CudaSelectAnchors, DenseHeads) {
  SKIP_WITHOUT_GPU();
  take_as_small(130000);
  SelectAnchors op = dense(2);
  op.top = 1000;
  std::vector<AnchorLevel> levels = random_maps(op, 1, {{60, 50}, {30, 25}}, -6, 1);
  for (const float threshold : {0.05f, 0.3f, 0.7f, 0.9f, 0.0f, -1.0f}) {
    op.threshold = threshold;
    expect_as_on_cpu(op, levels, fmt::format("above {}", threshold));
  }
  op.threshold = 0.05f;
  for (float& v : levels[0].scores.mutable_values<float>()) v = 0.5f;
  expect_as_on_cpu(op, levels, "a level of equal scores");
}

TEST(CudaSelectAnchors, SaturatedSigmoidsAreTies) {
  SKIP_WITHOUT_GPU();
  const SelectAnchors op = dense(1);
  std::vector<AnchorLevel> levels = random_maps(op, 1, {{20, 30}});
  for (float& v : levels[0].scores.mutable_values<float>()) v = v * 3 + 12;
  avoid_misrounded_exp(levels[0].scores);
  expect_as_on_cpu(op, levels, "saturated");
}

TEST(CudaSelectAnchors, ThresholdsOfARun) {
  SKIP_WITHOUT_GPU();
  const SelectAnchors first = proposals(1), last = dense(1);
  const std::vector<AnchorLevel> logits = random_maps(first, 1, {{9, 11}}),
                                 maps = random_maps(last, 1, {{9, 11}});
  for (const float p : {0.0f, 0.5f, 0.75f, 0.9f, 1.0f, 2.0f}) {
    const RunParameters both{.first_score_threshold = p, .score_threshold = p};
    expect_as_on_cpu(first, logits, fmt::format("proposals above {}", p), both);
    expect_as_on_cpu(last, maps, fmt::format("detections above {}", p), both);
  }
  expect_as_on_cpu(first, logits, "not its stage", {.score_threshold = 0.9f});
  expect_as_on_cpu(last, maps, "not its stage", {.first_score_threshold = 0.9f});
}

TEST(CudaSelectAnchors, WhatIsNotFiniteIsDropped) {
  SKIP_WITHOUT_GPU();
  for (const SelectAnchors& op : {proposals(1), dense(1)}) {
    std::vector<AnchorLevel> levels = random_maps(op, 1, {{9, 11}});
    const auto scores = levels[0].scores.mutable_values<float>();
    const auto deltas = levels[0].deltas.mutable_values<float>();
    scores[5] = NAN, scores[6] = kInf, scores[7] = -kInf, scores[70] = -NAN;
    for (std::size_t i = 0; i < deltas.size(); i += 7) deltas[i] = i % 2 ? NAN : kInf;
    expect_as_on_cpu(op, levels, "some not finite");
    std::ranges::fill(scores, NAN);
    expect_as_on_cpu(op, levels, "only NaN");
  }
}

TEST(CudaSelectAnchors, EmptyBoxesAreDropped) {
  SKIP_WITHOUT_GPU();
  take_as_small(50000);
  SelectAnchors op = proposals(1);
  op.min_size = 8, op.top = 1000;
  const std::vector<AnchorLevel> levels = random_maps(op, 2, {{40, 40}});  // reaches far out of the image
  expect_as_on_cpu(op, levels, "small ones dropped");
  op.drop_empty = false;
  expect_as_on_cpu(op, levels, "all kept");
}

TEST(CudaSelectAnchors, InclusiveBoxes) {
  SKIP_WITHOUT_GPU();
  for (SelectAnchors op : {proposals(2), dense(2)}) {
    op.inclusive = true, op.clip = true, op.top = 1000;
    expect_as_on_cpu(op, random_maps(op, 2, {{40, 40}, {20, 20}}), "clipped to the last pixel");
  }
  // Anchors of 8 pixels, not moved: a side of min_size is kept.
  SelectAnchors op = proposals(1);
  op.inclusive = true, op.anchors = 1, op.cells = {-4, -4, 3, 3}, op.top = 1000;
  std::vector<AnchorLevel> levels = random_maps(op, 1, {{15, 20}});
  std::ranges::fill(levels[0].deltas.mutable_values<float>(), 0.0f);
  for (const float least : {0.0f, 1.0f, 4.0f, 7.0f, 8.0f, 8.5f}) {
    op.min_size = least;
    expect_as_on_cpu(op, levels, fmt::format("sides of at least {}", least));
  }
}

}  // namespace
}  // namespace osprey
