// What int8 costs: its detections beside those of fp32 on photos, and AP where there are annotations.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "eval/coco_data.h"
#include "graph/model.h"
#include "osprey/engine.h"

namespace osprey {

// How far two sets of detections of the same photos are apart, from 0 (the same) to 1 (nothing alike):
//   1 - 2 * sum over pairs of min(score) * IoU / sum of all scores
// Pairs are of one class and at least half overlapping. So what is sure counts most, and boxes that move and
// scores that fall count beside detections that come and go. `logits`: scores are those of probabilities.
double detection_change(std::span<const Detections> before, std::span<const Detections> after, bool logits);

// The photos that fp32 and int8 are compared on, and those left to calibrate on: at most 16, evenly spaced,
// that calibration does not see; of fewer than eight all are both.
struct PhotoSplit {
  std::vector<std::filesystem::path> calibration, check;
};
PhotoSplit split_photos(const std::vector<std::filesystem::path>& photos);

// How much AP falls, of boxes or masks, whichever falls more, and how far off that may be: AP of so few
// photos changes by thousandths when a handful of them is replaced.
struct ApDrop {
  double value = 0;
  double error = 0;  // its standard error over photos, both APs being of the same ones
};

// Of a statistic that leaves one of several equal parts of its photos out each time (the jackknife).
double standard_error(std::span<const double> without_each_part);

// Runs graphs of one model on the CPU. Holds fp32's detections; photos are read again for each run.
class AccuracyCheck {
 public:
  // `model`: its graph after the passes, f32. `annotated` photos are those of `annotations`' file names, at
  // most 128. Photos that cannot be read are left out.
  AccuracyCheck(const Model& model, std::vector<std::filesystem::path> check,
                const std::vector<std::filesystem::path>& annotated, const std::filesystem::path& annotations,
                int threads);
  ~AccuracyCheck();

  const std::vector<std::filesystem::path>& photos() const { return check_; }
  const std::vector<Detections>& before() const { return before_; }
  double change(const Graph& graph, std::vector<Detections>* after = nullptr) const;
  bool has_annotations() const { return !annotated_.empty(); }
  // These need annotations.
  double ap_drop(const Graph& graph) const;
  ApDrop ap_drop_and_error(const Graph& graph) const;

 private:
  std::vector<Detections> detect(const Graph& graph, const std::vector<std::filesystem::path>& photos) const;
  // Of all annotated photos, then, if asked for, without each part of them: of boxes, and of masks if there
  // are any.
  std::vector<std::vector<double>> ap(const Graph& graph, bool parts) const;
  // What those fall by, whichever falls more.
  std::vector<double> ap_drops(const Graph& graph, bool parts) const;

  const Model& model_;
  int threads_;
  bool logits_;
  std::vector<std::filesystem::path> check_, annotated_;
  std::vector<CocoAnnotations> truths_;  // of all annotated photos, then without each part of them
  std::vector<std::int64_t> image_ids_, category_ids_;
  std::vector<Detections> before_;
  std::vector<std::vector<double>> ap_before_;
};

}  // namespace osprey
