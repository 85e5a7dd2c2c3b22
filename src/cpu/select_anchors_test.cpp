#include "ops/select_anchors.h"

#include <algorithm>
#include <limits>

#include <gtest/gtest.h>

#include "cpu/select_anchors_cases_test.h"

namespace osprey {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

struct Selected {
  std::vector<Roi> boxes;
  std::vector<float> scores;
  std::vector<std::int32_t> groups;
  bool operator==(const Selected& other) const {
    return scores == other.scores && groups == other.groups &&
           std::ranges::equal(boxes, other.boxes, [](const Roi& a, const Roi& b) {
             return a.image == b.image && a.box == b.box;
           });
  }
};

// Every candidate is scored and decoded, and all are sorted.
Selected reference(const SelectAnchors& op, const std::vector<AnchorLevel>& levels, float above) {
  Selected out;
  for (std::int64_t n = 0; n < levels[0].scores.dim(0); ++n)
    for (std::size_t l = 0; l < levels.size(); ++l) {
      const std::int64_t h = levels[l].scores.dim(2), w = levels[l].scores.dim(3),
                         channels = op.anchors * op.classes;
      struct Candidate {
        float score;
        std::int64_t pixel, channel;
      };
      std::vector<Candidate> all;
      for (std::int64_t p = 0; p < h * w; ++p)
        for (std::int64_t c = 0; c < channels; ++c) {
          const float raw =
              levels[l].scores.values<float>()[static_cast<std::size_t>((n * channels + c) * h * w + p)];
          const float score = op.activation == Activation::kSigmoid ? sigmoid(raw) : raw;
          if (std::isfinite(score) && score > above) all.push_back({score, p, c});
        }
      std::ranges::stable_sort(all, std::greater<>(), &Candidate::score);
      if (all.size() > static_cast<std::size_t>(op.top)) all.resize(static_cast<std::size_t>(op.top));
      for (const Candidate& c : all) {
        const std::int64_t a = c.channel / op.classes;
        float delta[4];
        for (std::int64_t d = 0; d < 4; ++d)
          delta[d] = levels[l].deltas.values<float>()[static_cast<std::size_t>(
              (n * op.anchors * 4 + a * 4 + d) * h * w + c.pixel)];
        const std::int64_t row = c.pixel / w, column = c.pixel % w;
        const float x = (static_cast<float>(column) + op.offset) * static_cast<float>(op.strides[l]);
        const float y = (static_cast<float>(row) + op.offset) * static_cast<float>(op.strides[l]);
        const float* cell =
            &op.cells[(l * static_cast<std::size_t>(op.anchors) + static_cast<std::size_t>(a)) * 4];
        Box box = BoxDecoder(op.weights, op.max_log_scale)(
            {cell[0] + x, cell[1] + y, cell[2] + x, cell[3] + y}, delta);
        if (!is_finite(box)) continue;
        const Geometry& g = kTwoImages[static_cast<std::size_t>(n)];
        if (op.clip) box = clip_box(box, g.clip_height, g.clip_width);
        if (op.drop_empty && !(box.width() > op.min_size && box.height() > op.min_size)) continue;
        out.boxes.push_back({static_cast<float>(n), box});
        out.scores.push_back(c.score);
        out.groups.push_back(static_cast<std::int32_t>(
            op.group == AnchorGroup::kLevel ? static_cast<std::int64_t>(l) : c.channel % op.classes));
      }
    }
  return out;
}

Selected run(const SelectAnchors& op, const std::vector<AnchorLevel>& levels, int block = 1, int threads = 1,
             RunParameters parameters = {}) {
  KernelCase test{.op = op, .threads = threads, .parameters = parameters};
  for (const AnchorLevel& level : levels) {
    test.inputs.push_back({level.scores, {block}});
    test.inputs.push_back({level.deltas, {block}});
  }
  std::vector<Geometry> geometry = kTwoImages;
  geometry.resize(static_cast<std::size_t>(levels[0].scores.dim(0)));
  test.inputs.push_back({rows_tensor(geometry)});
  const std::vector<Tensor> out = run_kernel(test);
  return {tensor_rows<Roi>(out[0]), tensor_rows<float>(out[1]), tensor_rows<std::int32_t>(out[2])};
}

TEST(SelectAnchors, TheBestOfEveryLevelInEveryLayout) {
  for (const SelectAnchors& op : {proposals(3), dense(3)}) {
    const std::vector<AnchorLevel> levels = random_anchor_levels(op, 2, {{25, 40}, {13, 20}, {3, 4}});
    const Selected want = reference(op, levels, op.has_threshold ? op.threshold : -kInf);
    EXPECT_GT(want.scores.size(), 100u);
    for (const int block : {0, 1, 8, 16})
      for (const int threads : {1, 2})
        EXPECT_TRUE(want == run(op, levels, block, threads)) << block << ", " << threads;
  }
}

// Several slices a level, and scores of which a great many are the same, or nearly.
TEST(SelectAnchors, LargeLevelsAndTies) {
  SelectAnchors op = proposals(1);
  op.top = 1000;
  std::vector<AnchorLevel> levels = random_anchor_levels(op, 1, {{140, 170}});
  const auto scores = levels[0].scores.mutable_values<float>();
  EXPECT_TRUE(reference(op, levels, -kInf) == run(op, levels, 1, 2));
  for (float& v : scores) v = std::floor(v);
  EXPECT_TRUE(reference(op, levels, -kInf) == run(op, levels, 16, 2));
  for (float& v : scores) v = v * 1e-7f + 1;
  EXPECT_TRUE(reference(op, levels, -kInf) == run(op, levels, 1, 2));
  for (std::size_t i = 0; i < scores.size(); ++i) scores[i] = i % 2 ? 0.0f : -0.0f;
  EXPECT_TRUE(reference(op, levels, -kInf) == run(op, levels, 1, 2));
}

TEST(SelectAnchors, SaturatedSigmoidsAreTies) {
  SelectAnchors op = dense(1);
  std::vector<AnchorLevel> levels = random_anchor_levels(op, 1, {{20, 30}});
  for (float& v : levels[0].scores.mutable_values<float>()) v = v * 3 + 12;
  EXPECT_TRUE(reference(op, levels, op.threshold) == run(op, levels, 16, 2));
}

TEST(SelectAnchors, ThresholdsOfARun) {
  const RunParameters both{.first_score_threshold = 0.75f, .score_threshold = 0.9f};
  const SelectAnchors first = proposals(1), last = dense(1);
  const std::vector<AnchorLevel> logits = random_anchor_levels(first, 1, {{9, 11}}),
                                 maps = random_anchor_levels(last, 1, {{9, 11}});
  EXPECT_TRUE(reference(first, logits, std::log(3.0f)) == run(first, logits, 1, 1, both));
  EXPECT_TRUE(reference(last, maps, 0.9f) == run(last, maps, 1, 1, both));
  EXPECT_EQ(run(last, maps, 1, 1, {.score_threshold = 1.0f}).scores.size(), 0u);
  EXPECT_EQ(run(first, logits, 1, 1, {.first_score_threshold = 1.0f}).scores.size(), 0u);
  EXPECT_TRUE(reference(first, logits, -kInf) == run(first, logits, 1, 1, {.first_score_threshold = 0.0f}));
}

TEST(SelectAnchors, WhatIsNotFiniteIsDropped) {
  for (const SelectAnchors& op : {proposals(1), dense(1)}) {
    std::vector<AnchorLevel> levels = random_anchor_levels(op, 1, {{9, 11}});
    const auto scores = levels[0].scores.mutable_values<float>();
    const auto deltas = levels[0].deltas.mutable_values<float>();
    scores[5] = NAN, scores[6] = kInf, scores[7] = -kInf, scores[70] = -NAN;
    for (std::size_t i = 0; i < deltas.size(); i += 7) deltas[i] = i % 2 ? NAN : kInf;
    EXPECT_TRUE(reference(op, levels, op.has_threshold ? op.threshold : -kInf) == run(op, levels, 16));
    std::ranges::fill(scores, NAN);
    EXPECT_EQ(run(op, levels).scores.size(), 0u);
  }
}

}  // namespace
}  // namespace osprey
