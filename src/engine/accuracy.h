// What int8 costs: its detections beside those of fp32 on photos, and AP where there are annotations.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "eval/coco_eval.h"
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

// How much AP falls, of boxes or masks, and how far off that may be: AP of so few photos changes by
// thousandths when a handful of them is replaced.
struct ApDrop {
  double value = 0;
  double error = 0;  // its standard error over photos, both APs being of the same ones
  double at_most(double margin) const { return value + margin * error; }
};

// Photos from which on the standard error of their AP is believed.
inline constexpr std::size_t kFewestForError = 16;

// Of a statistic that leaves one of several equal parts of its photos out each time (the jackknife).
double standard_error(std::span<const double> without_each_part);

// How far a job is whose steps are photos that a network runs on.
class PhotoProgress {
 public:
  explicit PhotoProgress(Progress progress) : progress_(std::move(progress)) {}
  void expect(std::size_t photos) { expected_ = photos, run_ = 0; }
  void say(std::string what);
  void one_more();

 private:
  void tell() const;

  Progress progress_;
  std::string what_;
  std::size_t expected_ = 0, run_ = 0;
};

// Runs graphs of one model on the CPU. Holds fp32's detections; photos are read again for each run.
class AccuracyCheck {
 public:
  // `model`: its graph after the passes, f32. AP is that of those of the `annotated` photos that
  // `annotations` names. Photos that cannot be read are left out.
  AccuracyCheck(const Model& model, std::vector<std::filesystem::path> check,
                const std::vector<std::filesystem::path>& annotated, const std::filesystem::path& annotations,
                int threads, PhotoProgress& progress);
  ~AccuracyCheck();

  const std::vector<std::filesystem::path>& photos() const { return check_; }
  const std::vector<Detections>& before() const { return before_; }
  double change(const Graph& graph, std::vector<Detections>* after = nullptr) const;
  PhotoProgress& progress() const { return progress_; }

  // These need annotations.
  std::size_t annotated() const { return annotated_.size(); }
  std::size_t runs_for_ap() const;  // of the network
  // Of boxes or masks, whichever may have fallen more. An error where fp32 has no AP to lose.
  ApDrop ap_drop(const Graph& graph, double margin) const;

 private:
  // Of boxes, and of masks if there are any: of all annotated photos, then without each part of them.
  using Aps = std::vector<std::vector<double>>;
  Aps ap(const Graph& graph) const;
  const Aps& ap_before() const;
  double ap(const std::vector<Detections>& found, CocoType type, std::size_t left_out) const;

  const Model& model_;
  int threads_;
  bool logits_;
  PhotoProgress& progress_;
  std::vector<std::filesystem::path> check_, annotated_;
  CocoAnnotations truth_;
  std::vector<CocoType> types_;
  std::vector<std::int64_t> image_ids_, category_ids_;
  std::vector<Detections> before_;
  mutable std::optional<Aps> ap_before_;  // found when it is first asked for
};

}  // namespace osprey
