// Cases of TensorFlow's detectors: golden arrays in NHWC, what a run may differ by, and detections in the
// frame of TensorFlow's (normalised, y first).
#pragma once

#include <nlohmann/json.hpp>

#include "parity/match.h"
#include "parity/model_case.h"

namespace osprey {

struct TfCase {
  std::string name;                  // folder below fixtures/tfod
  std::string store = "checkpoint";  // "checkpoint" or "saved_model", of the archive's folder
  std::string device = "cpu";
  Precision precision = Precision::kFp32;
};

std::ostream& operator<<(std::ostream& out, const TfCase& c);
// "ssd_mobilenet_v2_320_saved_model"
std::string name_of(const TfCase& c);

// What a run may differ by.
struct TfBounds {
  double over_deviation = 0;  // of a stage, over the standard deviation of its values; 0: any
  double over_magnitude = 0;  // of a stage, over its largest magnitude; 0: any
  double iou = 0.95;          // from which a box counts as the same
  double box = 0, score = 0;  // box: normalised
  std::size_t unmatched = 2;  // of the golden detections, and of ours
};

class TfFixture : public testing::TestWithParam<TfCase> {
 protected:
  void SetUp() override;

  static std::filesystem::path folder() { return fixture("tfod") / GetParam().name; }
  std::filesystem::path build(const std::vector<std::pair<std::string, std::string>>& overrides = {},
                              const std::string& config = {}) const;
  Image photo() const;
  CaseRun run(const std::filesystem::path& engine, const std::vector<std::string>& stages = {}) const;

  // A golden array and ours; `maps`: ours in parts, NCHW, whose pixels' channels lie one after the other in
  // the golden one (heads, joined over all maps), or one tensor of the golden one's extents.
  void expect_stage(const std::string& name, const std::vector<const Tensor*>& maps) const;
  // Rows of a golden array and ours: golden row r is our row rows[r]; without one it is left out.
  void expect_rows(const std::string& name, const Tensor& ours,
                   const std::vector<std::optional<std::size_t>>& rows) const;
  // The final detections; `rows`: of ours, which anchor or proposal each is, compared where it is given.
  // Returns which golden one is which of ours.
  std::vector<std::pair<std::size_t, std::size_t>> expect_detections(const Detections& found,
                                                                     const Tensor* rows = nullptr) const;
  // The golden detections in the photo's pixels.
  std::vector<ClassedBox> golden_detections() const;

  // The golden array's values at these samples against ours there, within the stage's bound.
  void expect_values(const std::string& name, const std::vector<std::pair<double, double>>& values,
                     const GoldenStage& golden) const;

  ScratchFolder scratch_;
  std::unique_ptr<GoldenArrays> golden_;
  nlohmann::json case_;
  TfBounds bounds_;
};

}  // namespace osprey
