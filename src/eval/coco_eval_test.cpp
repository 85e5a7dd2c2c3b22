// Small cases by hand, and reports; agreement with pycocotools is in tests/parity.
#include "eval/coco_eval.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "eval/confusion.h"
#include "eval/curves.h"
#include "eval/report.h"
#include "osprey/error.h"

namespace osprey {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::int64_t kCat = 5, kDog = 9;

CocoAnnotation instance(std::int64_t id, std::int64_t image, std::int64_t category, XywhBox box) {
  return {.id = id, .image_id = image, .category_id = category, .area = box[2] * box[3], .box = box};
}
CocoResult result(std::int64_t image, std::int64_t category, double score, XywhBox box) {
  return {.image_id = image, .category_id = category, .score = score, .box = box};
}

// Two images, a cat in each, a dog in the second.
CocoAnnotations two_images() {
  return {.source = "gt.json",
          .images = {{1, "a", 100, 100}, {2, "b", 100, 100}},
          .categories = {{kDog, "dog"}, {kCat, "cat"}, {11, "owl"}},
          .annotations = {instance(1, 1, kCat, {10, 10, 40, 40}), instance(2, 2, kCat, {10, 10, 40, 40}),
                          instance(3, 2, kDog, {60, 60, 30, 30})}};
}

TEST(CocoEval, HalfOfTheCatsFoundAndNoDog) {
  const CocoResults found{"dt.json", {result(1, kCat, .9, {10, 10, 40, 40})}};
  const auto eval = evaluate(two_images(), found, CocoType::kBbox);
  EXPECT_THAT(eval.category_ids, ElementsAre(kCat, kDog, 11));
  EXPECT_EQ(eval.recall[eval.recall_index(0, 0, 0, 2)], .5);
  EXPECT_NEAR(eval.precision[eval.precision_index(0, 50, 0, 0, 2)], 1, 1e-12);
  EXPECT_EQ(eval.precision[eval.precision_index(0, 51, 0, 0, 2)], 0);
  EXPECT_EQ(eval.precision[eval.precision_index(0, 0, 2, 0, 2)], -1);  // no owl to find
  EXPECT_NEAR(eval.classes[0].ap50, 51 / 101., 1e-12);
  EXPECT_EQ(eval.classes[1].ap, 0);
  EXPECT_EQ(eval.classes[2].ap, -1);
  EXPECT_EQ(eval.classes[0].images, 2);
  EXPECT_EQ(eval.classes[2].instances, 0);
}

TEST(CocoEval, NothingFoundIsZeroAndNothingToFindUndefined) {
  const auto none = evaluate(two_images(), {}, CocoType::kBbox);
  EXPECT_EQ(none.stats[0], 0);
  auto truth = two_images();
  truth.annotations.clear();
  const auto undefined = evaluate(truth, {}, CocoType::kBbox);
  for (const double v : undefined.stats) EXPECT_EQ(v, -1);
}

TEST(CocoEval, RefusesResultsOfUnknownImages) {
  const CocoResults found{"dt.json", {result(8, kCat, .9, {10, 10, 40, 40})}};
  EXPECT_THROW(evaluate(two_images(), found, CocoType::kBbox), Error);
  EXPECT_THROW(coco_type_from_name("box"), Error);
}

TEST(CocoEval, MasksNeedMasks) {
  const CocoResults found{"dt.json", {result(1, kCat, .9, {10, 10, 40, 40})}};
  EXPECT_THROW(evaluate(two_images(), found, CocoType::kSegm), Error);
}

TEST(Report, PrintsPycocotoolsLines) {
  const CocoResults found{"dt.json", {result(1, kCat, .9, {10, 10, 40, 40})}};
  const auto text = summary_text(evaluate(two_images(), found, CocoType::kBbox));
  EXPECT_THAT(text,
              HasSubstr(" Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.252\n"));
  EXPECT_THAT(text,
              HasSubstr(" Average Precision  (AP) @[ IoU=0.75      | area=   all | maxDets=100 ] = 0.252\n"));
  EXPECT_THAT(
      text, HasSubstr(" Average Recall     (AR) @[ IoU=0.50:0.95 | area= large | maxDets=100 ] = -1.000\n"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 12);
}

TEST(Report, JsonHasTheSchemaOfTheCommand) {
  const CocoResults found{"dt.json", {result(1, kCat, .9, {10, 10, 40, 40})}};
  const std::array evals{evaluate(two_images(), found, CocoType::kBbox)};
  const auto json = nlohmann::json::parse(eval_json(evals));
  EXPECT_EQ(json["bbox"]["stats"].size(), 12u);
  EXPECT_EQ(json["bbox"]["stats"][0].get<double>(), evals[0].stats[0]);
  EXPECT_EQ(json["bbox"]["classes"][1]["name"], "dog");
  EXPECT_EQ(json["bbox"]["classes"][2]["AP"], -1);
  EXPECT_THAT(class_table_text(evals[0]), HasSubstr("1 more class has no instance"));
}

TEST(Confusion, CountsRightWrongMissedAndFalse) {
  const CocoResults found{"dt.json",
                          {result(1, kDog, .9, {10, 10, 40, 40}),    // the cat of image 1, as a dog
                           result(2, kCat, .8, {11, 11, 40, 40}),    // right
                           result(2, kCat, .7, {10, 10, 40, 40}),    // the same cat again
                           result(2, kDog, .1, {60, 60, 30, 30})}};  // right, but below the threshold
  const auto matrix = confusion_matrix(two_images(), found, CocoType::kBbox);
  EXPECT_THAT(matrix.labels, ElementsAre("cat", "dog", "owl", "background"));
  EXPECT_THAT(matrix.counts, ElementsAre(1, 1, 0, 0,  //
                                         0, 0, 0, 1,  //
                                         0, 0, 0, 0,  //
                                         1, 0, 0, 0));
}

TEST(Curves, AreOfTheClassesWithInstances) {
  const CocoResults found{"dt.json", {result(1, kCat, .9, {10, 10, 40, 40})}};
  const auto eval = evaluate(two_images(), found, CocoType::kBbox);
  const auto curves = precision_recall_curves(eval);
  ASSERT_EQ(curves.size(), 10u);
  EXPECT_EQ(curves[0].x.size(), 101u);
  EXPECT_EQ(curves[0].label, "IoU 0.50");
  EXPECT_NEAR(curves[0].y[0], .5, 1e-12);  // the cat's 1 and the dog's 0
}

}  // namespace
}  // namespace osprey
