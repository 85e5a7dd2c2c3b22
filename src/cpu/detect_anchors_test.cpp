#include "ops/detect_anchors.h"

#include <gtest/gtest.h>

#include "cpu/detect_anchors_cases_test.h"

namespace osprey {
namespace {

const float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();

std::vector<Tensor> run(const DetectCase& c, int threads = 1, CpuLayout layout = {},
                        RunParameters parameters = {}) {
  KernelCase test{.op = c.op, .inputs = {}, .threads = threads, .parameters = parameters};
  for (const Tensor& map : c.maps) test.inputs.push_back({map, layout});
  test.inputs.push_back({rows_tensor(c.geometry)});
  return run_kernel(test);
}

void expect_oracle(const DetectCase& c, const std::vector<Tensor>& got) {
  std::size_t at = 0;
  DetectAnchorsOracle oracle(c.op, c.maps, c.geometry);
  for (std::int64_t n = 0; n < static_cast<std::int64_t>(c.geometry.size()); ++n)
    for (const OracleDetection& want : oracle.detect(n)) {
      ASSERT_LT(at, static_cast<std::size_t>(got[0].dim(0)));
      const Roi roi = tensor_rows<Roi>(got[0])[at];
      ASSERT_EQ(got[1].values<float>()[at], want.score) << at;
      ASSERT_EQ(got[2].values<std::int32_t>()[at], want.classification) << at;
      ASSERT_EQ(got[3].values<std::int32_t>()[at], want.row) << at;
      ASSERT_EQ(roi.box, want.box) << at;
      ASSERT_EQ(roi.image, static_cast<float>(n));
      ++at;
    }
  ASSERT_EQ(at, static_cast<std::size_t>(got[0].dim(0)));
}

TEST(DetectAnchors, IsWhatRankingEverythingGives) {
  std::uint32_t seed = 0;
  for (const DetectAnchors& op : kDetectCases) {
    const DetectCase c = random_case(op, {{11, 13}, {6, 7}, {1, 1}}, seed += 100);
    for (const int block : {0, 1, 8, 16})
      for (const int threads : {1, 2}) {
        SCOPED_TRACE(seed * 1000 + static_cast<std::uint32_t>(10 * block + threads));
        expect_oracle(c, run(c, threads, {block}));
      }
  }
}

// Several portions of candidates: nearly all of them suppress one another.
TEST(DetectAnchors, GoesOnBelowTheFirstPortion) {
  std::uint32_t seed = 7;
  for (DetectAnchors op : kDetectCases) {
    op.iou = 0, op.max_log_scale = 0;
    DetectCase c = random_case(op, {{40, 50}}, ++seed);
    for (float& v : c.maps[1].mutable_values<float>()) v = 3 + v * 0.01f;  // large boxes
    const std::vector<Tensor> got = run(c, 2);
    EXPECT_LT(got[0].dim(0), 2 * op.max_detections);
    expect_oracle(c, got);
  }
}

TEST(DetectAnchors, EqualScoresKeepTheLowerClassThenTheLowerAnchor) {
  std::uint32_t seed = 50;
  for (const DetectAnchors& op : kDetectCases) {
    DetectCase c = random_case(op, {{9, 8}, {4, 4}}, ++seed);
    for (const float score : {0.5f, 30.0f})  // sigmoid(30) is 1
      for (std::size_t l = 0; l < 2; ++l) {
        for (float& v : c.maps[2 * l].mutable_values<float>()) v = score;
        expect_oracle(c, run(c, 2, {8}));
      }
    for (std::size_t l = 0; l < 2; ++l)
      for (float& v : c.maps[2 * l].mutable_values<float>()) v = std::floor(v * 7) / 7;
    expect_oracle(c, run(c));
  }
}

TEST(DetectAnchors, FewCandidatesAndNone) {
  std::uint32_t seed = 80;
  for (DetectAnchors op : kDetectCases) {
    op.threshold = 0.9f;
    DetectCase c = random_case(op, {{7, 5}}, ++seed);
    expect_oracle(c, run(c));
    for (float& v : c.maps[0].mutable_values<float>()) v = -40;
    if (op.scores != AnchorScores::kSoftmaxSkipFirst) {
      EXPECT_EQ(run(c)[0].dim(0), 0);
    }
  }
}

TEST(DetectAnchors, NonsenseIsDroppedOrOverlapsNothing) {
  std::uint32_t seed = 90;
  for (const DetectAnchors& op : kDetectCases) {
    DetectCase c = random_case(op, {{7, 9}}, ++seed);
    const bool softmax = op.scores == AnchorScores::kSoftmaxSkipFirst;
    const auto scores = c.maps[0].mutable_values<float>(), deltas = c.maps[1].mutable_values<float>();
    // A NaN among the logits of a softmax is every class's.
    for (std::size_t i = 0; i < scores.size(); i += 11) scores[i] = i % 2 || softmax ? -kInf : kNan;
    for (std::size_t i = 0; i < deltas.size(); i += 13) deltas[i] = i % 2 ? kNan : -200;  // exp(-200) is 0
    for (std::size_t i = 5; i < deltas.size(); i += 17) deltas[i] = 500;                  // infinite boxes
    expect_oracle(c, run(c, 2));
  }
}

TEST(DetectAnchors, LevelsOfTheirOwn) {
  DetectAnchors op = kSsdCase;
  op.level_anchors = {2, 4};
  DetectCase c = random_case(op, {{5, 7}, {2, 3}}, 200);
  c.op.strides = {16.5f, 14.25f, 40, 33.3333f};
  c.op.offsets = {0.5f, 0, 0.25f, 0.5f};
  expect_oracle(c, run(c));
}

TEST(DetectAnchors, ThresholdsOfARun) {
  const RunParameters parameters{
      .first_score_threshold = 0.6f, .score_threshold = 0.3f, .nms_iou = 0.2f, .max_detections = 7};
  DetectCase last = random_case(kSsdCase, {{9, 9}}, 300), first = random_case(kRpnCase, {{9, 9}}, 301);
  const std::vector<Tensor> got_last = run(last, 1, {}, parameters),
                            got_first = run(first, 1, {}, parameters);
  last.op.threshold = 0.3f, last.op.iou = 0.2f, last.op.max_detections = 7;
  expect_oracle(last, got_last);
  first.op.threshold = 0.6f;
  expect_oracle(first, got_first);
  EXPECT_EQ(run(last, 1, {}, {.max_detections = 0})[0].dim(0), 0);
}

TEST(DetectAnchors, RefusesLevelsThatDoNotFit) {
  const DetectCase c = random_case(kSsdCase, {{9, 9}}, 300);
  DetectCase other = c;
  other.maps[1] = random_tensor({2, 12, 9, 8}, 0, 1, 1);
  EXPECT_THROW(run(other), Error);
  other = c;
  other.op.cells.pop_back();
  EXPECT_THROW(run(other), Error);
  other = c;
  other.op.strides[0] = kNan;
  EXPECT_THROW(run(other), Error);
}

}  // namespace
}  // namespace osprey
