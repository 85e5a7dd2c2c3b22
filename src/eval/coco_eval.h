// COCO's metrics, number for number as pycocotools 2.0.11's COCOeval computes them (its order of ties, its
// treatment of crowds, of areas and of an annotation whose id is 0 included).
//
//   const auto truth = load_coco_annotations("instances.json", {.masks = true});
//   const auto found = load_coco_results("results.json", truth, {.masks = true});
//   const auto eval = evaluate(truth, found, CocoType::kSegm);
//   fmt::print("{}", summary_text(eval));  // eval/report.h
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "eval/coco_data.h"

namespace osprey {

enum class CocoType { kBbox, kSegm, kKeypoints };

// "bbox", "segm", "keypoints"; and back, an error for anything else.
std::string_view name_of(CocoType type);
CocoType coco_type_from_name(std::string_view name);

struct AreaRange {
  std::string label;
  double low, high;  // square pixels, both inside
};

// Empty lists stand for COCO's own.
struct CocoEvalOptions {
  std::vector<int> max_detections;        // 1, 10, 100; keypoints: 20
  std::vector<double> iou_thresholds;     // 0.5, 0.55 ... 0.95; at most 32
  std::vector<double> recall_thresholds;  // 0, 0.01 ... 1
  std::vector<AreaRange> areas;           // all, small, medium, large; keypoints: no small
  std::vector<double> keypoint_sigmas;    // COCO's 17
  bool use_categories = true;             // false pools all categories
};

struct ClassSummary {
  std::int64_t id = 0;
  std::string name;
  double ap = -1, ap50 = -1,
         ap75 = -1;            // over all areas, with the largest number of detections; -1 = no instance
  std::int64_t images = 0;     // that have an instance
  std::int64_t instances = 0;  // without crowds and what else is ignored
};

struct CocoEval {
  CocoType type = CocoType::kBbox;
  std::vector<double> iou_thresholds, recall_thresholds;  // T, R
  std::vector<std::int64_t> category_ids;                 // K, ascending; one entry, -1, without categories
  std::vector<AreaRange> areas;                           // A
  std::vector<int> max_detections;                        // M, ascending

  // In C order; -1 where there is nothing to find.
  std::vector<double> precision, scores;  // [T, R, K, A, M]
  std::vector<double> recall;             // [T, K, A, M]

  // 12 numbers (keypoints: 10) in the order that pycocotools prints them; -1 where undefined.
  std::vector<double> stats;
  std::vector<ClassSummary> classes;  // one for each of category_ids; none without categories

  std::size_t recall_index(std::size_t t, std::size_t k, std::size_t a, std::size_t m) const {
    return ((t * category_ids.size() + k) * areas.size() + a) * max_detections.size() + m;
  }
  std::size_t precision_index(std::size_t t, std::size_t r, std::size_t k, std::size_t a,
                              std::size_t m) const {
    return recall_index(t * recall_thresholds.size() + r, k, a, m);
  }
};

// Needs what the type compares: boxes; masks (or boxes, of results, which are rasterised); keypoints.
// Runs on thread_count() threads; the numbers do not depend on how many.
CocoEval evaluate(const CocoAnnotations& truth, const CocoResults& results, CocoType type,
                  const CocoEvalOptions& options = {});

// The lines of the summary, of which `stats` are the values.
struct SummaryLine {
  bool precision;             // else recall
  std::optional<double> iou;  // one threshold; none for the mean over all
  std::string area;
  int max_detections;
  double value;
};
std::vector<SummaryLine> summary_lines(const CocoEval& eval);

}  // namespace osprey
