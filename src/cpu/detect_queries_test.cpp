#include "ops/detect_queries.h"

#include <cmath>

#include <gmock/gmock.h>

#include "cpu/kernel_harness.h"
#include "ops/refine_boxes.h"
#include "ops/select_queries.h"

namespace osprey {
namespace {

using testing::ElementsAre;
using testing::FloatNear;

TEST(SelectQueries, TakesTheBestTokensOfEachImage) {
  const Tensor logits =
      tensor_of<float>({0, 1, 5, -1, 2, 2, 5, 0, /**/ -1, -2, -3, -4, -1, -9, 0, 0}, {8, 2});
  for (const int threads : {1, 2}) {
    const Tensor got =
        run_kernel({.op = SelectQueries{.top = 3, .tokens = 4}, .inputs = {{logits}}, .threads = threads})
            .at(0);
    EXPECT_THAT(got.values<std::int32_t>(), ElementsAre(1, 3, 2, 7, 4, 6));  // equal ones by lower token
  }
}

struct Detected {
  Tensor boxes, scores, classes, rows;
};

// Two images, two queries each, three classes; network input of 100 x 200.
Detected detect(const DetectQueries& op, const RunParameters& parameters = {}) {
  const Tensor logits = tensor_of<float>({0, 3, -1, 2, -9, 3, /**/ -5, -5, -5, 9, -5, 1}, {4, 3});
  const Tensor boxes = tensor_of<float>(
      {0.5f, 0.5f, 0.2f, 0.4f, 0.1f, 0.1f, 0.4f, 0.4f, 0.5f, 0.5f, 1, 1, 0.25f, 0.5f, 0.5f, 0.5f}, {4, 4});
  const Tensor geometry = tensor_of<float>({100, 200, 1, 1, 100, 200, 100, 200, 1, 1, 100, 200}, {2, 6});
  auto out = run_kernel({.op = op, .inputs = {{logits}, {boxes}, {geometry}}, .parameters = parameters});
  return {out.at(0), out.at(1), out.at(2), out.at(3)};
}

TEST(DetectQueries, RanksQueriesAndClassesTogether) {
  const Detected got = detect({.top = 4, .queries = 2});
  EXPECT_THAT(got.rows.values<std::int32_t>(), ElementsAre(0, 1, 1, 0, 3, 3, 2, 2));
  EXPECT_THAT(got.classes.values<std::int32_t>(), ElementsAre(1, 2, 0, 0, 0, 2, 0, 1));
  EXPECT_NEAR(got.scores.values<float>()[0], 1 / (1 + std::exp(-3.0)), 1e-6);
  const auto boxes = got.boxes.values<float>();
  EXPECT_THAT(std::vector<float>(boxes.begin(), boxes.begin() + 5),
              ElementsAre(0, FloatNear(80, 1e-4f), FloatNear(30, 1e-4f), FloatNear(120, 1e-4f),
                          FloatNear(70, 1e-4f)));
  // Boxes may leave the photo.
  EXPECT_NEAR(boxes[5 + 1], -20, 1e-4);
  EXPECT_EQ(boxes[4 * 5], 1);
}

TEST(DetectQueries, ThresholdsAndCountsMayChangeAtRunTime) {
  EXPECT_THAT(detect({.top = 4, .queries = 2}, {.score_threshold = 0.9f}).rows.values<std::int32_t>(),
              ElementsAre(0, 1, 3));
  EXPECT_THAT(detect({.top = 4, .queries = 2}, {.max_detections = 1}).rows.values<std::int32_t>(),
              ElementsAre(0, 3));
  EXPECT_EQ(detect({.top = 4, .queries = 2}, {.score_threshold = 1.0f}).scores.size(), 0);
}

TEST(RefineBoxes, MovesInLogitSpace) {
  const Tensor deltas = tensor_of<float>({0, 1, -2, 0}, {1, 4}),
               boxes = tensor_of<float>({0.25f, 0.5f, 0, 1}, {1, 4});
  const Tensor got = run_kernel({.op = RefineBoxes{}, .inputs = {{deltas}, {boxes}}}).at(0);
  const auto logistic = [](double v) { return 1 / (1 + std::exp(-v)); };
  EXPECT_NEAR(got.values<float>()[0], 0.25, 1e-6);
  EXPECT_NEAR(got.values<float>()[1], logistic(1), 1e-6);
  EXPECT_NEAR(got.values<float>()[2], logistic(-2 + std::log(1e-5)), 1e-8);
  EXPECT_NEAR(got.values<float>()[3], logistic(std::log(1e5)), 1e-6);
}

}  // namespace
}  // namespace osprey
