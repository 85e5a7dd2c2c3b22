// Every number of pycocotools 2.0.11's COCOeval on sets made of its corner cases: ties, crowds, id 0, area
// limits, empty images, categories without instances.
#include "eval/coco_eval.h"

#include <gtest/gtest.h>

#include "core/parallel.h"
#include "parity/fixtures.h"
#include "parity/golden_arrays.h"

namespace osprey {
namespace {

constexpr double kTolerance = 1e-9;

struct Case {
  std::string prefix;
  CocoEvalOptions options;
};

void expect_parity(CocoType type) {
  const auto folder = fixture("cocoeval/" + std::string(name_of(type)) + "_nasty");
  OSPREY_NEEDS_FIXTURE(folder);
  const GoldenArrays golden(folder / "golden.npz");
  const CocoParts parts{.masks = type == CocoType::kSegm, .keypoints = type == CocoType::kKeypoints};
  const auto truth = load_coco_annotations(folder / "gt.json", parts);
  const auto results = load_coco_results(folder / "dt.json", truth, parts);

  for (const auto& [prefix, options] : {Case{"", {}}, Case{"nocats_", {.use_categories = false}},
                                        Case{"maxdets_5_50_500", {.max_detections = {5, 50, 500}}}}) {
    if (!golden.has(prefix + "precision")) continue;
    const auto eval = evaluate(truth, results, type, options);
    expect_all_near(eval.precision, golden.doubles(prefix + "precision"), kTolerance, prefix + "precision");
    expect_all_near(eval.recall, golden.doubles(prefix + "recall"), kTolerance, prefix + "recall");
    expect_all_near(eval.scores, golden.doubles(prefix + "scores"), kTolerance, prefix + "scores");
    if (golden.has(prefix + "stats")) {
      expect_all_near(eval.stats, golden.doubles(prefix + "stats"), kTolerance, prefix + "stats");
    }
    if (!prefix.empty()) continue;
    EXPECT_EQ(eval.iou_thresholds, golden.doubles("iouThrs"));
    EXPECT_EQ(eval.recall_thresholds, golden.doubles("recThrs"));
    const std::vector<double> categories(eval.category_ids.begin(), eval.category_ids.end());
    EXPECT_EQ(categories, golden.doubles("catIds"));
  }
}

TEST(CocoEvalParity, Boxes) { expect_parity(CocoType::kBbox); }
TEST(CocoEvalParity, Masks) { expect_parity(CocoType::kSegm); }
TEST(CocoEvalParity, Keypoints) { expect_parity(CocoType::kKeypoints); }

TEST(CocoEvalParity, ThreadsChangeNothing) {
  const auto folder = fixture("cocoeval/segm_nasty");
  OSPREY_NEEDS_FIXTURE(folder);
  const auto run = [&](int threads) {
    set_thread_count(threads);
    const auto truth = load_coco_annotations(folder / "gt.json", {.masks = true});
    const auto eval =
        evaluate(truth, load_coco_results(folder / "dt.json", truth, {.masks = true}), CocoType::kSegm);
    set_thread_count(0);
    return eval;
  };
  const auto one = run(1), many = run(7);
  EXPECT_EQ(one.precision, many.precision);
  EXPECT_EQ(one.scores, many.scores);
  EXPECT_EQ(one.stats, many.stats);
}

}  // namespace
}  // namespace osprey
