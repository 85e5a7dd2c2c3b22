// Every curve and average of maskrcnn-benchmark's VOC evaluator.
#include "eval/voc_eval.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "parity/fixtures.h"
#include "parity/golden_arrays.h"

namespace osprey {
namespace {

TEST(VocEvalParity, CurvesAndAverages) {
  const auto file = fixture("cocoeval/voc/golden.npz");
  OSPREY_NEEDS_FIXTURE(file);
  const GoldenArrays golden(file);
  const auto box = [](const std::vector<double>& flat, std::size_t i) {
    return std::array{float(flat[4 * i]), float(flat[4 * i + 1]), float(flat[4 * i + 2]),
                      float(flat[4 * i + 3])};
  };
  std::vector<VocTruth> truths;
  const auto gt_boxes = golden.doubles("gt_boxes"), gt_labels = golden.doubles("gt_labels"),
             gt_image = golden.doubles("gt_image"), difficult = golden.doubles("gt_difficult");
  for (std::size_t i = 0; i < gt_labels.size(); ++i) {
    truths.push_back({int(gt_image[i]), int(gt_labels[i]), box(gt_boxes, i), difficult[i] != 0});
  }
  std::vector<VocDetection> found;
  const auto dt_boxes = golden.doubles("dt_boxes"), dt_labels = golden.doubles("dt_labels"),
             dt_image = golden.doubles("dt_image"), scores = golden.doubles("dt_scores");
  for (std::size_t i = 0; i < dt_labels.size(); ++i) {
    found.push_back({int(dt_image[i]), int(dt_labels[i]), box(dt_boxes, i), float(scores[i])});
  }

  for (const auto& [text, iou] : {std::pair("0.5", .5f), std::pair("0.7", .7f)}) {
    for (const bool eleven : {false, true}) {
      const auto eval = evaluate_voc(truths, found, {.iou = iou, .eleven_points = eleven});
      const auto suffix = fmt::format("_{}_{}", text, eleven ? "11point" : "area");
      std::vector<double> aps;
      for (const auto& c : eval.classes) aps.push_back(c.ap);
      expect_all_near(aps, golden.doubles("ap" + suffix), 1e-9, "ap" + suffix);
      expect_all_near({eval.mean_ap}, golden.doubles("map" + suffix), 1e-9, "map" + suffix);
      for (std::size_t label = 0; label < eval.classes.size(); ++label) {
        const auto of_class = fmt::format("_{}_class{}", text, label);
        if (golden.has("prec" + of_class)) {
          expect_all_near(eval.classes[label].precision, golden.doubles("prec" + of_class), 1e-9,
                          "prec" + of_class);
        }
        if (golden.has("rec" + of_class)) {
          expect_all_near(eval.classes[label].recall, golden.doubles("rec" + of_class), 1e-9,
                          "rec" + of_class);
        }
      }
    }
  }
}

}  // namespace
}  // namespace osprey
