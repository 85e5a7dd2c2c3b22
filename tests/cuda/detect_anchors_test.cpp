#include "ops/detect_anchors.h"

#include "cpu/detect_anchors_cases_test.h"
#include "cuda/box_cases.h"

namespace osprey {
namespace {

KernelCase kernel_case(const DetectCase& c, RunParameters parameters = {}) {
  KernelCase test{.op = c.op, .inputs = {}, .threads = 2, .parameters = parameters};
  for (const Tensor& map : c.maps) test.inputs.push_back({map});
  test.inputs.push_back({rows_tensor(c.geometry)});
  return test;
}

// As many detections, of the same anchors and classes in the same order; scores to the bit where suppression
// is hard, and else within the rounding of products in another order; boxes within a thousandth of a pixel.
void expect_as_on_cpu(const DetectCase& c, const std::string& what, RunParameters parameters = {}) {
  const KernelCase test = kernel_case(c, parameters);
  const std::vector<Tensor> got = run_cuda(test), want = run_oracle(test);
  ASSERT_EQ(got.size(), 4u);
  ASSERT_EQ(got[0].shape(), want[0].shape()) << what;
  EXPECT_TRUE(same_bytes(got[2], want[2])) << what << ": other classes, or another order";
  EXPECT_TRUE(same_bytes(got[3], want[3])) << what << ": other anchors, or another order";
  const float slack = c.op.soft_sigma > 0 ? 1e-6f : 0;
  const auto a = tensor_rows<Roi>(got[0]), b = tensor_rows<Roi>(want[0]);
  std::size_t scores = 0, boxes = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    scores += !(std::abs(got[1].values<float>()[i] - want[1].values<float>()[i]) <= slack);
    const bool same = a[i].box == b[i].box || largest_difference(a[i].box, b[i].box) <= 1e-3f;
    boxes += a[i].image != b[i].image || !same;
  }
  EXPECT_EQ(scores, 0u) << what << ": other scores";
  EXPECT_EQ(boxes, 0u) << what << ": boxes elsewhere";
}

// Softmax over several classes is declined.
std::vector<DetectAnchors> settings() {
  std::vector<DetectAnchors> out = kDetectCases;
  std::erase_if(out, [](const DetectAnchors& op) {
    return op.scores == AnchorScores::kSoftmaxSkipFirst && op.classes > 1;
  });
  return out;
}

using Sizes = std::vector<std::pair<int, int>>;

Sizes sizes(const Sizes& all, const Sizes& in_short) { return short_cases() ? in_short : all; }

TEST(CudaDetectAnchors, LevelsAndSizes) {
  SKIP_WITHOUT_GPU();
  std::uint32_t seed = 0;
  for (const DetectAnchors& op : settings()) {
    expect_as_on_cpu(random_case(op, {{11, 13}, {6, 7}, {1, 1}}, seed += 100), fmt::format("small {}", seed));
    expect_as_on_cpu(random_case(op, {{1, 1}}, seed += 100), fmt::format("one cell {}", seed));
    expect_as_on_cpu(random_case(op, {{61, 83}, {30, 41}, {15, 20}}, seed += 100),
                     fmt::format("large {}", seed));
  }
}

TEST(CudaDetectAnchors, AnchorsOfLevels) {
  SKIP_WITHOUT_GPU();
  DetectAnchors op = kSsdCase;
  op.level_anchors = {2, 4};
  DetectCase c = random_case(op, sizes({{19, 19}, {10, 10}}, {{11, 12}, {6, 6}}), 5);
  c.op.strides = {16.5f, 14.25f, 40, 33.3333f};
  c.op.offsets = {0.5f, 0, 0.25f, 0.5f};
  expect_as_on_cpu(c, "levels of their own");
}

// As many candidates as SSD and EfficientDet have.
TEST(CudaDetectAnchors, LargeHeads) {
  SKIP_WITHOUT_GPU();
  DetectAnchors ssd = kSsdCase;
  ssd.anchors = 6, ssd.classes = 90, ssd.max_per_class = 100, ssd.max_detections = 100;
  const Sizes of_ssd = sizes({{40, 40}, {20, 20}, {10, 10}, {5, 5}, {3, 3}}, {{3, 3}, {1, 1}});
  expect_as_on_cpu(random_case(ssd, of_ssd, 1), "SSD 320");
  const Sizes of_efficientdet = sizes({{64, 64}, {32, 32}, {16, 16}, {8, 8}, {4, 4}}, {{3, 3}, {1, 1}});
  for (DetectAnchors op : {kSoftCase, kSoftPerClassCase, kCombinedCase}) {
    op.anchors = 9, op.classes = 90, op.max_detections = 100;
    expect_as_on_cpu(random_case(op, of_efficientdet, 2), "EfficientDet");
  }
  DetectAnchors rpn = kRpnCase;
  rpn.anchors = 12, rpn.max_per_class = 300, rpn.max_detections = 300;
  rpn.canvas_height = rpn.canvas_width = 640;
  expect_as_on_cpu(random_case(rpn, sizes({{40, 40}}, {{10, 10}}), 3), "proposals");
}

// An untrained network's: far more than can be listed lie in one bin of the sample.
TEST(CudaDetectAnchors, LogitsThatLieClose) {
  SKIP_WITHOUT_GPU();
  const Sizes of_maps = sizes({{48, 48}, {24, 24}}, {{3, 3}, {1, 1}});
  for (DetectAnchors op : {kSoftPerClassCase, kCombinedCase}) {
    op.anchors = 9, op.classes = 90, op.max_detections = 100;
    DetectCase c = random_case(op, of_maps, 11);
    for (std::size_t l = 0; l < op.levels(); ++l)
      for (float& v : c.maps[2 * l].mutable_values<float>()) v = 0.5f + v * 0.002f;
    expect_as_on_cpu(c, "logits that lie close");
  }
}

// Nearly all candidates suppress one another, so that the first portion is not enough.
TEST(CudaDetectAnchors, GoesOnBelowTheFirstPortion) {
  SKIP_WITHOUT_GPU();
  std::uint32_t seed = 7;
  for (DetectAnchors op : settings()) {
    op.iou = 0;
    DetectCase c = random_case(op, sizes({{60, 70}}, {{14, 15}}), ++seed);
    for (float& v : c.maps[1].mutable_values<float>()) v = 3 + v * 0.01f;  // large boxes
    expect_as_on_cpu(c, fmt::format("portions {}", seed));
  }
}

// TensorFlow's region proposals are of one class, but not agnostic: nothing else counts once that class has
// its boxes, even where fewer are left of them since some are empty when clipped.
TEST(CudaDetectAnchors, ProposalsOfOneClass) {
  SKIP_WITHOUT_GPU();
  DetectAnchors op = kRpnCase;
  op.agnostic = false;
  std::uint32_t seed = 600;
  for (const int most : {1, 40, 300})
    for (const float iou : {0.02f, 0.3f, 0.7f}) {
      op.iou = iou, op.max_per_class = op.max_detections = most;
      expect_as_on_cpu(random_case(op, sizes({{40, 40}}, {{14, 15}}), ++seed),
                       fmt::format("iou {}, {} boxes", iou, most));
      // Of a wide map the right part is beyond both images.
      DetectAnchors unclipped = op;
      unclipped.clip_anchors = false;
      expect_as_on_cpu(random_case(unclipped, sizes({{20, 80}}, {{7, 30}}), ++seed),
                       fmt::format("empty ones, iou {}, {} boxes", iou, most));
    }
}

// More candidates of one score than a list holds.
TEST(CudaDetectAnchors, EqualScores) {
  SKIP_WITHOUT_GPU();
  take_as_small(80000);
  std::uint32_t seed = 50;
  for (const DetectAnchors& op : settings()) {
    DetectCase c = random_case(op, sizes({{70, 80}, {4, 4}}, {{34, 33}, {4, 4}}), ++seed);
    for (const float score : {0.5f, 30.0f}) {  // sigmoid(30) is 1
      for (std::size_t l = 0; l < 2; ++l)
        for (float& v : c.maps[2 * l].mutable_values<float>()) v = score;
      expect_as_on_cpu(c, fmt::format("all {} {}", score, seed));
    }
  }
}

TEST(CudaDetectAnchors, FewCandidatesAndNone) {
  SKIP_WITHOUT_GPU();
  std::uint32_t seed = 80;
  for (DetectAnchors op : settings()) {
    op.threshold = 0.9f;
    DetectCase c = random_case(op, {{7, 5}}, ++seed);
    expect_as_on_cpu(c, fmt::format("few {}", seed));
    op.threshold = 1;
    c.op.threshold = 1;
    expect_as_on_cpu(c, fmt::format("none {}", seed));
  }
}

TEST(CudaDetectAnchors, NonsenseIsDroppedOrOverlapsNothing) {
  SKIP_WITHOUT_GPU();
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  std::uint32_t seed = 90;
  for (const DetectAnchors& op : settings()) {
    DetectCase c = random_case(op, {{17, 19}}, ++seed);
    const auto scores = c.maps[0].mutable_values<float>(), deltas = c.maps[1].mutable_values<float>();
    for (std::size_t i = 0; i < scores.size(); i += 11) scores[i] = i % 2 ? -inf : nan;
    for (std::size_t i = 0; i < deltas.size(); i += 13) deltas[i] = i % 2 ? nan : -200;  // exp(-200) is 0
    for (std::size_t i = 5; i < deltas.size(); i += 17) deltas[i] = 500;                 // infinite boxes
    expect_as_on_cpu(c, fmt::format("nonsense {}", seed));
  }
}

TEST(CudaDetectAnchors, ThresholdsOfARun) {
  SKIP_WITHOUT_GPU();
  const RunParameters parameters{
      .first_score_threshold = 0.6f, .score_threshold = 0.3f, .nms_iou = 0.2f, .max_detections = 7};
  for (const DetectAnchors& op : settings())
    expect_as_on_cpu(random_case(op, {{19, 19}}, 300), "parameters", parameters);
  expect_as_on_cpu(random_case(kSsdCase, {{9, 9}}, 301), "no detections", {.max_detections = 0});
}

}  // namespace
}  // namespace osprey
