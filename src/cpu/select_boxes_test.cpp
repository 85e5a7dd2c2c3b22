#include "ops/select_boxes.h"

#include <algorithm>
#include <limits>

#include <gtest/gtest.h>

#include "cpu/box_cases_test.h"

namespace osprey {
namespace {

struct Selected {
  std::vector<Roi> boxes;
  std::vector<float> scores;
  std::vector<std::int32_t> classes;
};

Selected run(const SelectBoxes& op, const std::vector<Roi>& rois, const Tensor& scores, const Tensor& deltas,
             int threads = 1, RunParameters parameters = {}) {
  const std::int64_t bound = static_cast<std::int64_t>(rois.size()) + 2;
  const std::vector<Tensor> out = run_kernel({.op = op,
                                              .inputs = {{rows_tensor(rois), {}, bound},
                                                         {scores, {}, bound},
                                                         {deltas, {}, bound},
                                                         {rows_tensor(kTwoImages)}},
                                              .threads = threads,
                                              .parameters = parameters});
  return {tensor_rows<Roi>(out[0]), tensor_rows<float>(out[1]), tensor_rows<std::int32_t>(out[2])};
}

TEST(SelectBoxes, EveryPairAboveTheThresholdInOrder) {
  for (const std::int64_t delta_width : {4, 4 * 6}) {
    const std::vector<Roi> rois = random_boxes(100, 2, 1);
    const Tensor scores = random_tensor({100, 7}, 0, 1, 2),
                 deltas = random_tensor({100, delta_width}, -3, 3, 3);
    const SelectBoxes op{.threshold = 0.7f, .weights = {10, 5, 2, 1}};
    const Selected got = run(op, rois, scores, deltas), again = run(op, rois, scores, deltas, 2);
    EXPECT_EQ(got.scores, again.scores);
    std::size_t i = 0;
    for (std::size_t r = 0; r < 100; ++r)
      for (std::size_t k = 0; k < 6; ++k) {
        const float score = scores.values<float>()[r * 7 + k];
        if (!(score > 0.7f)) continue;
        ASSERT_LT(i, got.boxes.size());
        const auto offset = r * static_cast<std::size_t>(delta_width) + (delta_width == 4 ? 0 : 4 * k);
        const Geometry& g = kTwoImages[static_cast<std::size_t>(rois[r].image)];
        const Box want = clip_box(decode_reference(rois[r].box, deltas.values<float>().data() + offset,
                                                   op.weights, op.max_log_scale),
                                  g.clip_height, g.clip_width);
        EXPECT_EQ(got.scores[i], score);
        EXPECT_EQ(got.classes[i], static_cast<std::int32_t>(k));
        EXPECT_EQ(got.boxes[i].image, rois[r].image);
        EXPECT_LT(largest_difference(got.boxes[i].box, want), 1e-4f);
        EXPECT_EQ(got.boxes[i].box, again.boxes[i].box);
        ++i;
      }
    EXPECT_EQ(i, got.boxes.size());
  }
}

TEST(SelectBoxes, ThresholdIsStrictAndCanBeChanged) {
  const std::vector<Roi> rois{{0, {0, 0, 9, 9}}};
  const Tensor scores = tensor_of<float>({0.5f, 0.25f, 0.9f}, {1, 3}),
               deltas = Tensor::zeros(DType::kF32, {1, 4});
  EXPECT_EQ(run({.threshold = 0.5f}, rois, scores, deltas).scores.size(), 0u);  // the background never counts
  EXPECT_EQ(run({.threshold = 0.5f}, rois, scores, deltas, 1, {.score_threshold = 0.25f}).classes,
            std::vector<std::int32_t>{0});
  EXPECT_EQ(run({}, {}, Tensor::zeros(DType::kF32, {0, 3}), Tensor::zeros(DType::kF32, {0, 4})).scores.size(),
            0u);
}

TEST(SelectBoxes, AnyNumberThatIsNotFiniteDropsTheRoi) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const std::vector<Roi> rois(6, {0, {10, 10, 30, 20}});
  Tensor scores = Tensor::zeros(DType::kF32, {6, 3}), deltas = Tensor::zeros(DType::kF32, {6, 8});
  std::ranges::fill(scores.mutable_values<float>(), 0.5f);
  scores.mutable_values<float>()[1 * 3 + 2] = NAN;    // the background's
  deltas.mutable_values<float>()[2 * 8 + 5] = kInf;   // moves class 1 away
  deltas.mutable_values<float>()[3 * 8 + 2] = kInf;   // clamped: still finite
  deltas.mutable_values<float>()[4 * 8 + 7] = -kInf;  // no height: still finite
  deltas.mutable_values<float>()[5 * 8 + 0] = 3e38f;  // times the width overflows
  EXPECT_EQ(run({.weights = {1, 1, 1, 1}}, rois, scores, deltas).classes,
            (std::vector<std::int32_t>{0, 1, 0, 1, 0, 1}));
}

TEST(SelectBoxes, TensorflowsOrders) {
  const std::vector<Roi> rois = random_boxes(40, 2, 1);
  const Tensor scores = random_tensor({40, 7}, 0, 1, 2);
  for (const std::int64_t width : {4, 4 * 6}) {
    Tensor deltas = random_tensor({40, width}, -3, 3, 3);
    deltas.mutable_values<float>()[static_cast<std::size_t>(5 * width)] = NAN;
    const SelectBoxes op{.threshold = 0.4f,
                         .weights = {10, 5, 2, 1},
                         .max_log_scale = 0,
                         .delta_order = DeltaOrder::kYxhw,
                         .background_first = true,
                         .clip = false};
    const Selected got = run(op, rois, scores, deltas);
    std::size_t i = 0;
    for (std::size_t r = 0; r < 40; ++r)
      for (std::size_t k = 0; k < 6; ++k) {
        if (!(scores.values<float>()[r * 7 + k + 1] > 0.4f)) continue;
        const float* d =
            deltas.values<float>().data() + r * static_cast<std::size_t>(width) + (width == 4 ? 0 : 4 * k);
        if (std::isnan(d[0])) continue;
        const float turned[4] = {d[1], d[0], d[3], d[2]};
        ASSERT_LT(i, got.boxes.size());
        EXPECT_EQ(got.classes[i], static_cast<std::int32_t>(k));
        EXPECT_EQ(got.scores[i], scores.values<float>()[r * 7 + k + 1]);
        const Box want = decode_reference(rois[r].box, turned, op.weights, 1e9);
        EXPECT_LT(largest_difference(got.boxes[i].box, want),
                  1e-5f * (1 + std::abs(want.x1) + std::abs(want.y1)));
        ++i;
      }
    EXPECT_EQ(i, got.boxes.size());
  }
}

}  // namespace
}  // namespace osprey
