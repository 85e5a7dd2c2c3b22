// Whole models against maskrcnn-benchmark's own run: every stage it recorded and its final detections, masks
// and keypoints, within the tolerances that the cases state (fixtures/mrcnn_benchmark/*/case.json). The
// measured figures are printed. The heads run once more on the golden run's own boxes, which leaves nothing
// but their own rounding.
#include <algorithm>
#include <cmath>
#include <limits>

#include <gmock/gmock.h>

#include "image/rle.h"
#include "ops/select_anchors.h"
#include "parity/differences.h"
#include "parity/given_boxes.h"

namespace osprey {
namespace {

using testing::SizeIs;

constexpr double kKeypointPixels = 0.1;  // beyond which a keypoint has moved
bool is_map(const std::string& name) {
  return name == "input" || starts_with_any(name, {"body.", "feature_", "rpn_logits_", "rpn_deltas_"});
}
bool follows_proposals(const std::string& name) {
  return starts_with_any(name, {"proposal_scores", "box_pool", "box_feat", "box_logits", "box_deltas"});
}
bool follows_detections(const std::string& name) {
  return starts_with_any(name, {"mask_logits", "mask_pool", "mask_probs", "kp_pool", "keypoint_heatmaps"});
}
// Of these the case names no tolerance for what the boxes' shifts do to them (it names mask probabilities',
// and keypoints are compared): they are held on the golden boxes.
bool is_held_on_golden_boxes_alone(const std::string& name) {
  return starts_with_any(name, {"kp_pool", "keypoint_heatmaps", "mask_logits"});
}
// First rows in full of a stage that is there sampled, too.
std::string stage_of(const std::string& name) { return name.substr(0, name.find("_first")); }

// Boxes hold their last pixel, and may be no larger.
std::vector<ClassedBox> with_last_pixel(std::vector<ClassedBox> boxes) {
  for (ClassedBox& b : boxes) b.box[2] += 1, b.box[3] += 1;
  return boxes;
}

struct DeviceCase {
  ModelCase model;
  std::string device = "cpu";
  Precision precision = Precision::kFp32;
  RcnnBounds bounds = {};
};

std::ostream& operator<<(std::ostream& out, const DeviceCase& c) {
  return out << c.model.name << " on " << c.device << " in " << name_of(c.precision);
}

class MaskrcnnBenchmark : public testing::TestWithParam<DeviceCase> {
 protected:
  void SetUp() override {
    OSPREY_NEEDS_FIXTURE(fixture("mrcnn_benchmark") / model().name)
    OSPREY_NEEDS_DEVICE(GetParam().device)
  }

  void load();
  void expect_anchors(const Graph& graph) const;
  void expect_maps() const;
  void expect_proposals() const;
  void expect_rows(const std::string& name, const std::vector<std::optional<std::size_t>>& rows,
                   double tolerance) const;
  void expect_detections() const;
  void expect_masks(const std::vector<std::pair<std::size_t, std::size_t>>& pairs) const;
  void expect_keypoints(const std::vector<std::pair<std::size_t, std::size_t>>& pairs) const;
  void expect_heads(bool of_box_head) const;

  static const ModelCase& model() { return GetParam().model; }
  static const RcnnBounds& bounds() { return GetParam().bounds; }
  const Tensor& stage(const std::string& name) const { return run_.stages.at(name); }

  std::unique_ptr<GoldenArrays> golden_;
  std::unique_ptr<CaseEngine> case_engine_;
  std::shared_ptr<const LoadedEngine> engine_;
  std::vector<std::string> names_;  // of golden stages
  CaseRun run_;
};

void MaskrcnnBenchmark::load() {
  golden_ = std::make_unique<GoldenArrays>(fixture("mrcnn_benchmark") / model().name / "golden.npz");
  case_engine_ = std::make_unique<CaseEngine>(
      model(), BuildOptions{.device = GetParam().device, .precision = GetParam().precision});
  engine_ = LoadedEngine::open(case_engine_->file(), {.tuning = quick_tuning()});
  std::vector<std::string> wanted{"proposal_boxes", "det_boxes_net"};
  for (const std::string& name : golden_->stage_names()) {
    if (!is_map(name) && !follows_proposals(name) && !follows_detections(name)) continue;
    if (name == "input_shape_nchw") continue;
    names_.push_back(name);
    if (stage_of(name) == name) wanted.push_back(name);
  }
  for (const std::string& name : wanted)
    ASSERT_NE(engine_->graph().find(name), kNoValue) << "the engine has no stage " << name;
  ASSERT_THAT(wanted, SizeIs(testing::Ge(25u)));
  run_ = run_with_stages(case_engine_->file(), read_image(fixture("images") / model().photo), wanted);
  expect_anchors(engine_->graph());
}

void MaskrcnnBenchmark::expect_anchors(const Graph& graph) const {
  for (const Node& node : graph.nodes()) {
    const auto* op = node.op.as<SelectAnchors>();
    if (op == nullptr) continue;
    const auto per_level = static_cast<std::size_t>(op->anchors) * 4;
    for (std::size_t l = 0; l < op->strides.size(); ++l) {
      const Tensor golden = golden_->tensor("cell_anchors_" + std::to_string(l));
      const auto values = golden.values<float>();
      ASSERT_EQ(values.size(), per_level);
      EXPECT_TRUE(std::equal(values.begin(), values.end(),
                             op->cells.begin() + static_cast<std::ptrdiff_t>(l * per_level)))
          << "level " << l;
    }
  }
}

void MaskrcnnBenchmark::expect_maps() const {
  const Tensor shape = golden_->tensor("input_shape_nchw");
  EXPECT_THAT(stage("input").shape(), testing::ElementsAreArray(shape.values<std::int64_t>()));
  for (const std::string& name : names_) {
    if (!is_map(name)) continue;
    const GoldenStage golden = golden_stage(*golden_, name);
    ASSERT_EQ(stage(name).shape(), golden.shape) << name;
    const double worst = map_difference(golden, stage(name));
    std::printf("  %-22s %.1e of the largest magnitude\n", name.c_str(), worst);
    EXPECT_LE(worst, name == "input" ? bounds().input : bounds().maps) << name;
  }
}

void MaskrcnnBenchmark::expect_rows(const std::string& name,
                                    const std::vector<std::optional<std::size_t>>& rows,
                                    double tolerance) const {
  const double worst = row_difference(golden_stage(*golden_, name), stage(stage_of(name)), rows);
  const auto held = std::count_if(rows.begin(), rows.end(), [](const auto& row) { return row.has_value(); });
  std::printf("  %-22s %.1e of the largest magnitude, in %ld of %zu rows\n", name.c_str(), worst, held,
              rows.size());
  EXPECT_LE(worst, tolerance) << name;
}

void MaskrcnnBenchmark::expect_proposals() const {
  const auto golden = corners_of(golden_->tensor("proposal_boxes")),
             got = corners_of(stage("proposal_boxes"));
  EXPECT_NEAR(static_cast<double>(got.size()), static_cast<double>(golden.size()),
              (1 - bounds().matched) * static_cast<double>(golden.size()));
  const auto rows = match_boxes(golden, got, bounds().proposal_pixels);
  const auto matched =
      std::count_if(rows.begin(), rows.end(), [](const auto& row) { return row.has_value(); });
  std::printf("  proposals              %ld of %zu within %.2f px\n", matched, golden.size(),
              bounds().proposal_pixels);
  EXPECT_GE(static_cast<double>(matched), bounds().matched_proposals * static_cast<double>(golden.size()));
  for (const std::string& name : names_)
    if (follows_proposals(name)) expect_rows(name, rows, bounds().rows);
}

void MaskrcnnBenchmark::expect_detections() const {
  const auto boxes = corners_of(golden_->tensor("det_boxes"));
  const auto scores = golden_->doubles("det_scores"), labels = golden_->doubles("det_labels");
  std::vector<ClassedBox> golden;
  for (std::size_t i = 0; i < boxes.size(); ++i)
    golden.push_back({boxes[i], static_cast<int>(labels[i]) - 1, scores[i]});
  const auto got = classed_boxes(run_.detections);
  const auto pairs = match_detections(with_last_pixel(golden), with_last_pixel(got), bounds().match_iou);
  expect_paired(golden, got, pairs, bounds());

  // Stages have a row for each detection of the network, in its own order: paired by its own boxes.
  const auto net = match_boxes(corners_of(golden_->tensor("det_boxes_net")),
                               corners_of(stage("det_boxes_net")), bounds().detection_pixels);
  const auto same = std::count_if(net.begin(), net.end(), [](const auto& row) { return row.has_value(); });
  EXPECT_GE(static_cast<double>(same), bounds().matched_rows * static_cast<double>(net.size()));
  for (const std::string& name : names_)
    if (follows_detections(name) && !is_held_on_golden_boxes_alone(name))
      expect_rows(name, net, name == "mask_probs" ? bounds().mask_probability : bounds().rows);
  if (golden_->has("mask_probs")) expect_masks(pairs);
  if (golden_->has("keypoints")) expect_keypoints(pairs);
}

void MaskrcnnBenchmark::expect_masks(const std::vector<std::pair<std::size_t, std::size_t>>& pairs) const {
  const auto texts = golden_->strings("mask_rle");
  const auto size = golden_->doubles("mask_rle_size");
  MaskDifference worst;
  for (const auto& [g, k] : pairs) {
    const auto& mask = run_.detections.items[k].mask;
    ASSERT_TRUE(mask.has_value());
    const MaskDifference d = mask_difference(
        decompress_rle(texts[g], static_cast<int>(size[0]), static_cast<int>(size[1])), *mask);
    worst = {std::min(worst.iou, d.iou), std::max(worst.pixels, d.pixels)};
    EXPECT_TRUE(d.iou >= bounds().mask_iou || d.pixels <= bounds().mask_pixels)
        << "mask " << g << ": IoU " << d.iou << ", " << d.pixels << " pixels differ";
  }
  std::printf("  masks                  IoU at least %.5f, at most %ld pixels differ\n", worst.iou,
              worst.pixels);
}

// A heat map's maximum moves by a pixel where two of its pixels nearly tie: then their values are compared.
void MaskrcnnBenchmark::expect_keypoints(
    const std::vector<std::pair<std::size_t, std::size_t>>& pairs) const {
  const GoldenStage points = golden_stage(*golden_, "keypoints"),
                    logits = golden_stage(*golden_, "keypoint_logits");
  const auto count = static_cast<std::size_t>(points.shape.at(1));
  double worst_logit = 0, worst_position = 0;
  std::size_t moved = 0;
  for (const auto& [g, k] : pairs) {
    const auto& ours = run_.detections.items[k].keypoints;
    ASSERT_THAT(ours, SizeIs(count));
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t at = g * count + i;
      worst_logit = std::max(worst_logit, std::abs(ours[i].score - logits.values[at]));
      const double distance =
          std::hypot(ours[i].x - points.values[3 * at], ours[i].y - points.values[3 * at + 1]);
      if (distance > kKeypointPixels) {
        ++moved;
      } else {
        worst_position = std::max(worst_position, distance);
      }
    }
  }
  std::printf("  keypoints              within %.4f px but %zu of %zu, logits within %.1e of the largest\n",
              worst_position, moved, pairs.size() * count, worst_logit / logits.magnitude());
  EXPECT_LE(static_cast<double>(moved), bounds().moved_keypoints * static_cast<double>(pairs.size() * count));
  EXPECT_LE(worst_logit, bounds().keypoint_logit * logits.magnitude());
}

void MaskrcnnBenchmark::expect_heads(bool of_box_head) const {
  const std::string boxes = of_box_head ? "proposal_boxes" : "det_boxes_net";
  std::vector<std::string> names;  // mask_probs are of classes, whose order is the detections'
  for (const std::string& name : names_)
    if ((of_box_head ? follows_proposals(name) : follows_detections(name)) && name != "proposal_scores" &&
        name != "mask_probs")
      names.push_back(name);
  if (names.empty()) return;
  std::vector<std::string> wanted;
  for (const std::string& name : names)
    if (stage_of(name) == name) wanted.push_back(name);
  const GivenBoxesRun run =
      run_on_given_boxes(*engine_, read_image(fixture("images") / model().photo), boxes,
                         corners_of(golden_->tensor(boxes)), stage(boxes).dim(0), wanted);
  for (const std::string& name : names) {
    const double worst =
        row_difference(golden_stage(*golden_, name), run.stages.at(stage_of(name)), run.rows);
    std::printf("  %-22s %.1e of the largest magnitude, on the golden boxes\n", name.c_str(), worst);
    EXPECT_LE(worst, bounds().maps) << name;
  }
}

TEST_P(MaskrcnnBenchmark, EveryStageAndDetection) {
  load();
  if (HasFatalFailure()) return;
  std::printf("%s on %s:\n", model().name.c_str(), GetParam().device.c_str());
  expect_maps();
  expect_proposals();
  expect_detections();
  if (HasFatalFailure()) return;
  for (const bool of_box_head : {true, false}) expect_heads(of_box_head);
}

const std::string kFamily = "mrcnn_benchmark";

const ModelCase kCases[] = {{.name = "e2e_mask_rcnn_narrow",
                             .photo = "chelsea.png",
                             .checkpoint = "model_final.pth",
                             .family = kFamily},
                            {.name = "e2e_mask_rcnn_R_50_FPN_1x",
                             .photo = "coffee.png",
                             .checkpoint = "model_final.pth",
                             .family = kFamily},
                            {.name = "e2e_keypoint_rcnn_R_50_FPN_1x",
                             .photo = "astronaut.png",
                             .checkpoint = "model_final.pth",
                             .family = kFamily},
                            // By its official name: the same config as the case's file.
                            {.name = "detectron1_e2e_mask_rcnn_R-50-FPN",
                             .photo = "chelsea.png",
                             .config = "configs/caffe2/e2e_mask_rcnn_R_50_FPN_1x_caffe2.yaml",
                             .family = kFamily}};

std::vector<DeviceCase> on(const std::string& device, Precision precision, const RcnnBounds& bounds) {
  std::vector<DeviceCase> out;
  for (const ModelCase& model : kCases) out.push_back({model, device, precision, bounds});
  return out;
}

std::string case_name(const testing::TestParamInfo<DeviceCase>& c) {
  std::string name = c.param.model.name;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Cases, MaskrcnnBenchmark, testing::ValuesIn(on("cpu", Precision::kFp32, {})),
                         case_name);
INSTANTIATE_TEST_SUITE_P(CudaFp32, MaskrcnnBenchmark,
                         testing::ValuesIn(on("cuda", Precision::kFp32, kCudaFp32)), case_name);
INSTANTIATE_TEST_SUITE_P(CudaFp16, MaskrcnnBenchmark,
                         testing::ValuesIn(on("cuda", Precision::kFp16, kCudaFp16)), case_name);

}  // namespace
}  // namespace osprey
