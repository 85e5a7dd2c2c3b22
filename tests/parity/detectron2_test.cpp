// Whole models against Detectron2's own run: every stage it recorded and its final detections, within the
// tolerances that the cases state (fixtures/detectron2/*/case.json). The measured figures are printed.
#include <algorithm>
#include <cmath>
#include <iostream>
#include <limits>

#include <gmock/gmock.h>

#include "image/rle.h"
#include "ops/select_anchors.h"
#include "parity/differences.h"
#include "parity/given_boxes.h"

namespace osprey {
namespace {

using testing::Ge;
using testing::SizeIs;

// A case on a device.
struct DeviceCase {
  ModelCase model;
  std::string device = "cpu";
  Precision precision = Precision::kFp32;
  RcnnBounds bounds = {};
};

bool is_map(const std::string& name) {
  return starts_with_any(name, {"input", "stem", "res2", "res3", "res4", "res5", "p2", "p3", "p4", "p5", "p6",
                                "p7", "rpn_logits_", "rpn_deltas_", "cls_logits_", "box_deltas_p"}) &&
         name != "input_shape_nchw";
}
bool follows_proposals(const std::string& name) {
  return starts_with_any(name, {"box_pooler_out_", "box_head_feat_", "box_logits_0", "box_deltas_0"});
}
bool follows_detections(const std::string& name) {
  return starts_with_any(name, {"mask_logits", "mask_pooler_out", "mask_probs"});
}

std::ostream& operator<<(std::ostream& out, const DeviceCase& c) {
  return out << c.model.name << " on " << c.device << " in " << name_of(c.precision);
}

class Detectron2 : public testing::TestWithParam<DeviceCase> {
 protected:
  void SetUp() override {
    OSPREY_NEEDS_FIXTURE(fixture("detectron2") / model().name)
    OSPREY_NEEDS_DEVICE(GetParam().device)
  }

  void load();
  void expect_input();
  void expect_anchors(const Graph& graph);
  void expect_maps();
  void expect_proposals();
  void expect_rows(const std::string& name, const std::vector<std::optional<std::size_t>>& rows,
                   double tolerance);
  void expect_detections();
  void expect_masks(const std::vector<std::pair<std::size_t, std::size_t>>& pairs,
                    const std::vector<double>& rows);
  void expect_heads(const std::string& boxes, bool (*follows)(const std::string& name));

  static const ModelCase& model() { return GetParam().model; }
  static const RcnnBounds& bounds() { return GetParam().bounds; }
  const Tensor& stage(const std::string& name) const { return run_.stages.at(name); }

  std::unique_ptr<GoldenArrays> golden_;
  std::unique_ptr<CaseEngine> case_engine_;
  std::shared_ptr<const LoadedEngine> engine_;
  std::vector<std::string> names_;  // of golden stages
  CaseRun run_;
};

void Detectron2::load() {
  golden_ = std::make_unique<GoldenArrays>(fixture("detectron2") / model().name / "golden.npz");
  case_engine_ = std::make_unique<CaseEngine>(
      model(), BuildOptions{.device = GetParam().device, .precision = GetParam().precision});
  engine_ = LoadedEngine::open(case_engine_->file(), {.tuning = quick_tuning()});
  std::vector<std::string> wanted;
  for (const std::string& name : golden_->stage_names()) {
    const bool compared = is_map(name) || follows_proposals(name) || follows_detections(name) ||
                          name == "resized_u8" || name == "proposal_boxes" || name == "proposal_logits" ||
                          name == "det_boxes_net" || name == "det_scores" || name == "det_classes";
    if (!compared || name == "box_logits_first8_0") continue;
    ASSERT_NE(engine_->graph().find(name), kNoValue) << "the engine has no stage " << name;
    wanted.push_back(name);
  }
  ASSERT_THAT(wanted, SizeIs(Ge(18u)));
  names_ = wanted;
  run_ = run_with_stages(case_engine_->file(), read_image(fixture("images") / model().photo), wanted);
  expect_anchors(engine_->graph());
}

// Exact: resizing is integer arithmetic, and one subtraction follows.
void Detectron2::expect_input() {
  const auto shape = golden_->tensor("input_shape_nchw");
  EXPECT_THAT(stage("input").shape(), testing::ElementsAreArray(shape.values<std::int64_t>()));
  if (!golden_->has("resized_u8__sample")) return;
  const GoldenStage golden = golden_stage(*golden_, "resized_u8");
  const auto got = stage("resized_u8").values<std::uint8_t>();
  for (std::size_t i = 0; i < golden.values.size(); ++i)
    ASSERT_EQ(got[i * static_cast<std::size_t>(golden.stride)], golden.values[i])
        << "resized_u8, sample " << i;
}

// The goldens hold the anchors of the first two cells of each level.
void Detectron2::expect_anchors(const Graph& graph) {
  for (const Node& node : graph.nodes()) {
    const auto* op = node.op.as<SelectAnchors>();
    if (op == nullptr) continue;
    const bool retina = golden_->has("anchors_first_p7");
    const auto per_level = static_cast<std::size_t>(op->anchors) * 4;
    for (std::size_t l = 0; l < op->strides.size(); ++l) {
      const auto golden = golden_->doubles("anchors_first_p" + std::to_string(l + (retina ? 3 : 2)));
      ASSERT_EQ(golden.size(), 2 * per_level);
      for (std::size_t i = 0; i < golden.size(); ++i) {
        const double shift = i >= per_level && i % 2 == 0 ? op->strides[l] : 0;
        EXPECT_FLOAT_EQ(op->cells[l * per_level + i % per_level] + static_cast<float>(shift),
                        static_cast<float>(golden[i]))
            << "level " << l << ", number " << i;
      }
    }
  }
}

void Detectron2::expect_maps() {
  for (const std::string& name : names_) {
    if (!is_map(name)) continue;
    const GoldenStage golden = golden_stage(*golden_, name);
    ASSERT_EQ(stage(name).shape(), golden.shape) << name;
    const double worst = map_difference(golden, stage(name));
    std::printf("  %-18s %.1e of the largest magnitude\n", name.c_str(), worst);
    EXPECT_LE(worst, bounds().maps) << name;
  }
}

void Detectron2::expect_proposals() {
  if (!golden_->has("proposal_boxes")) return;  // RetinaNet has none
  const auto golden = corners_of(golden_->tensor("proposal_boxes")),
             got = corners_of(stage("proposal_boxes"));
  EXPECT_NEAR(static_cast<double>(got.size()), static_cast<double>(golden.size()),
              (1 - bounds().matched) * static_cast<double>(golden.size()));
  const auto rows = match_boxes(golden, got, bounds().proposal_pixels);
  const auto matched =
      std::count_if(rows.begin(), rows.end(), [](const auto& row) { return row.has_value(); });
  std::printf("  proposals          %ld of %zu within %.2f px\n", matched, golden.size(),
              bounds().proposal_pixels);
  EXPECT_GE(static_cast<double>(matched), bounds().matched_proposals * static_cast<double>(golden.size()));
  expect_rows("proposal_logits", rows, bounds().rows);
  for (const std::string& name : names_)
    if (follows_proposals(name)) expect_rows(name, rows, bounds().rows);

  // The first rows in full, where no sampling could hide an order of classes.
  const GoldenStage first = golden_stage(*golden_, "box_logits_first8_0");
  const auto logits = stage("box_logits_0").values<float>();
  const auto classes = static_cast<std::size_t>(first.shape[1]);
  for (std::size_t i = 0; i < first.values.size(); ++i)
    if (const auto& row = rows[i / classes]) {
      EXPECT_NEAR(logits[*row * classes + i % classes], first.values[i], bounds().rows * first.magnitude());
    }
}

void Detectron2::expect_rows(const std::string& name, const std::vector<std::optional<std::size_t>>& rows,
                             double tolerance) {
  const double worst = row_difference(golden_stage(*golden_, name), stage(name), rows);
  std::printf("  %-18s %.1e of the largest magnitude\n", name.c_str(), worst);
  EXPECT_LE(worst, tolerance) << name;
}

void Detectron2::expect_detections() {
  const auto boxes = corners_of(golden_->tensor("det_boxes"));
  const auto scores = golden_->doubles("det_scores"), classes = golden_->doubles("det_classes");
  // Which row of the network's detections each one in the photo is; without the array, all are there.
  std::vector<double> rows;
  if (golden_->has("det_index"))
    rows = golden_->doubles("det_index");
  else
    for (std::size_t i = 0; i < boxes.size(); ++i) rows.push_back(static_cast<double>(i));

  std::vector<ClassedBox> golden;
  for (std::size_t i = 0; i < boxes.size(); ++i) {
    const auto row = static_cast<std::size_t>(rows[i]);
    golden.push_back({boxes[i], static_cast<int>(classes[row]), scores[row]});
  }
  const auto got = classed_boxes(run_.detections);
  const auto pairs = match_detections(golden, got, bounds().match_iou);
  expect_paired(golden, got, pairs, bounds());
  if (golden_->has("mask_probs")) expect_masks(pairs, rows);
}

void Detectron2::expect_masks(const std::vector<std::pair<std::size_t, std::size_t>>& pairs,
                              const std::vector<double>& rows) {
  // Stages have a row for each detection of the network, in its own order: paired by its own boxes.
  const auto net = match_boxes(corners_of(golden_->tensor("det_boxes_net")),
                               corners_of(stage("det_boxes_net")), bounds().detection_pixels);
  for (const std::string& name : names_)
    if (follows_detections(name))
      expect_rows(name, net, name == "mask_probs" ? bounds().mask_probability : bounds().rows);

  const std::string key = golden_->has("mask_rle_photo_size") ? "mask_rle_photo" : "mask_rle";
  const auto texts = golden_->strings(key);
  const auto size = golden_->doubles(key + "_size");
  ASSERT_EQ(texts.size(), rows.size());
  MaskDifference worst;
  for (const auto& [g, k] : pairs) {
    const Rle golden = decompress_rle(texts[g], static_cast<int>(size[0]), static_cast<int>(size[1]));
    const auto& mask = run_.detections.items[k].mask;
    ASSERT_TRUE(mask.has_value());
    const MaskDifference d = mask_difference(golden, *mask);
    worst = {std::min(worst.iou, d.iou), std::max(worst.pixels, d.pixels)};
    EXPECT_TRUE(d.iou >= bounds().mask_iou || d.pixels <= bounds().mask_pixels)
        << "mask " << g << ": IoU " << d.iou << ", " << d.pixels << " pixels differ";
  }
  std::printf("  masks              IoU at least %.5f, at most %ld pixels differ\n", worst.iou, worst.pixels);
}

// What the heads on boxes make of the golden ones.
void Detectron2::expect_heads(const std::string& boxes, bool (*follows)(const std::string& name)) {
  std::vector<std::string> names;  // mask_probs are of classes, whose order is the detections'
  for (const std::string& name : names_)
    if (follows(name) && name != "mask_probs") names.push_back(name);
  if (names.empty()) return;
  const GivenBoxesRun run =
      run_on_given_boxes(*engine_, read_image(fixture("images") / model().photo), boxes,
                         corners_of(golden_->tensor(boxes)), stage(boxes).dim(0), names);
  for (const std::string& name : names) {
    const double worst = row_difference(golden_stage(*golden_, name), run.stages.at(name), run.rows);
    std::printf("  %-18s %.1e of the largest magnitude, on the golden boxes\n", name.c_str(), worst);
    EXPECT_LE(worst, bounds().maps) << name;
  }
}

TEST_P(Detectron2, EveryStageAndDetection) {
  load();
  if (HasFatalFailure()) return;
  std::cout << GetParam() << ", " << model().checkpoint << ":\n";
  expect_input();
  expect_maps();
  expect_proposals();
  expect_detections();
  expect_heads("proposal_boxes", follows_proposals);
  expect_heads("det_boxes_net", follows_detections);
}

const ModelCase kCases[] = {
    {"mask_rcnn_narrow", "chelsea.png"},
    {"mask_rcnn_narrow", "chelsea.png", "model_final.pth"},
    {"mask_rcnn_R_50_FPN_3x", "coffee.png"},
    {"mask_rcnn_R_50_FPN_3x_1344", "coffee.png", "model_final.pkl", "mask_rcnn_R_50_FPN_3x", 1344},
    {"mask_rcnn_R_50_FPN_3x_astronaut", "astronaut.png", "model_final.pkl", "mask_rcnn_R_50_FPN_3x"},
    {"faster_rcnn_R_50_FPN", "chelsea.png"},
    {"retinanet_R_50_FPN", "astronaut.png"},
};

std::vector<DeviceCase> on(const std::string& device, Precision precision, const RcnnBounds& bounds) {
  std::vector<DeviceCase> out;
  for (const ModelCase& model : kCases) out.push_back({model, device, precision, bounds});
  return out;
}

std::string case_name(const testing::TestParamInfo<DeviceCase>& c) {
  return c.param.model.name + (c.param.model.checkpoint.ends_with(".pth") ? "_pth" : "");
}

INSTANTIATE_TEST_SUITE_P(Cases, Detectron2, testing::ValuesIn(on("cpu", Precision::kFp32, {})), case_name);
INSTANTIATE_TEST_SUITE_P(CudaFp32, Detectron2, testing::ValuesIn(on("cuda", Precision::kFp32, kCudaFp32)),
                         case_name);
INSTANTIATE_TEST_SUITE_P(CudaFp16, Detectron2, testing::ValuesIn(on("cuda", Precision::kFp16, kCudaFp16)),
                         case_name);

}  // namespace
}  // namespace osprey
