// Faster and Mask R-CNN of TensorFlow's Object Detection API against its own run (fixtures/tfod/*/case.json):
// every stage it recorded, its anchors, proposals, final detections and masks, from checkpoints and from
// SavedModels. The measured figures are printed.
#include <algorithm>
#include <array>
#include <cmath>

#include <gmock/gmock.h>

#include "image/rle.h"
#include "ops/detect_anchors.h"
#include "parity/given_boxes.h"
#include "parity/tf_case.h"

namespace osprey {
namespace {

using Pairs = std::vector<std::pair<std::size_t, std::size_t>>;

// As the golden array has the stage: channels last, but for masks.
Tensor as_golden(const std::string& stage, const Tensor& values) {
  if (stage != "mask_predictions") return values;
  return Tensor::from<float>(values.values<float>(), {values.dim(0), values.size() / values.dim(0)});
}

class TfodTwoStage : public TfFixture {
 protected:
  bool has_masks() const { return golden_->has("det__detection_masks"); }
  std::vector<std::int32_t> integers(const std::string& array) const {
    const Tensor values = golden_->tensor(array);
    const auto all = values.values<std::int32_t>();
    return {all.begin(), all.end()};
  }
  // Of the network's input: height and width.
  std::array<double, 2> extents() const {
    const auto shape = integers("image_shape");
    return {static_cast<double>(shape.at(1)), static_cast<double>(shape.at(2))};
  }
  // In pixels of the network's input.
  std::vector<Corners> golden_proposals() const;
  std::vector<Corners> golden_boxes() const;
  void expect_anchors(const Graph& graph) const;
  std::vector<std::optional<std::size_t>> expect_proposals(const Tensor& boxes) const;
  void expect_heads(const LoadedEngine& engine, const std::string& instead_of,
                    const std::vector<Corners>& boxes, std::int64_t rows,
                    const std::vector<std::string>& stages, const std::string& prefix = "") const;
  void expect_mask_stages(const CaseRun& result, const Pairs& pairs) const;
  void expect_masks(const CaseRun& result, const Pairs& pairs) const;
};

// The goldens hold anchors as y0, x0, y1, x1 in pixels of the network's input, clipped to it.
void TfodTwoStage::expect_anchors(const Graph& graph) const {
  const GoldenStage golden = golden_stage(*golden_, "anchors");
  const auto size = extents();
  const auto& nodes = graph.nodes();
  const auto node = std::find_if(nodes.begin(), nodes.end(),
                                 [](const Node& n) { return n.op.as<DetectAnchors>() != nullptr; });
  ASSERT_NE(node, nodes.end());
  const auto* op = node->op.as<DetectAnchors>();
  const auto& dims = graph.value(node->inputs[0]).type.dims;
  std::vector<double> anchors;
  for (std::int64_t y = 0; y < dims[2].constant(); ++y)
    for (std::int64_t x = 0; x < dims[3].constant(); ++x)
      for (std::int64_t a = 0; a < op->anchors_of(0); ++a)
        for (const std::size_t corner : {1, 0, 3, 2}) {
          const std::size_t axis = corner % 2 == 0 ? 1 : 0;
          const double cell = static_cast<double>(axis == 0 ? y : x) + op->of_level(op->offsets, 0, axis);
          const double at =
              cell * op->of_level(op->strides, 0, axis) + op->cells[static_cast<std::size_t>(a * 4) + corner];
          anchors.push_back(std::clamp(at, 0., size[axis]));
        }
  ASSERT_EQ(static_cast<std::int64_t>(anchors.size()), element_count(golden.shape));
  for (std::size_t i = 0; i < golden.values.size(); ++i)
    ASSERT_NEAR(anchors[i * static_cast<std::size_t>(golden.stride)], golden.values[i], 1e-4)
        << "sample " << i;
}

std::vector<Corners> TfodTwoStage::golden_proposals() const {
  const auto values = golden_->doubles("proposal_boxes");
  std::vector<Corners> out;
  for (std::int32_t i = 0; i < integers("num_proposals").at(0); ++i) {
    const double* b = &values[4 * static_cast<std::size_t>(i)];
    out.push_back({b[1], b[0], b[3], b[2]});
  }
  return out;
}

std::vector<Corners> TfodTwoStage::golden_boxes() const {
  const auto values = golden_->doubles("det__detection_boxes");
  const auto photo = integers("true_image_shape");  // as it lies in the network's input
  const double height = photo.at(0), width = photo.at(1);
  std::vector<Corners> out;
  for (std::size_t i = 0; i < static_cast<std::size_t>(golden_->doubles("det__num_detections").at(0)); ++i) {
    const double* b = &values[4 * i];
    out.push_back({b[1] * width, b[0] * height, b[3] * width, b[2] * height});
  }
  return out;
}

// Which of ours each golden proposal is.
std::vector<std::optional<std::size_t>> TfodTwoStage::expect_proposals(const Tensor& boxes) const {
  const std::vector<Corners> golden = golden_proposals();
  const std::size_t count = golden.size();
  const auto got = corners_of(boxes);
  const auto size = extents();
  const double pixels = std::isfinite(bounds_.box) ? bounds_.box * std::max(size[0], size[1]) : 1;
  auto rows = match_boxes(golden, got, pixels);
  const auto matched = static_cast<std::size_t>(
      std::count_if(rows.begin(), rows.end(), [](const auto& r) { return r.has_value(); }));
  std::printf("  proposals: %zu of %zu within %.2f px, %zu found\n", matched, count, pixels, got.size());
  if (GetParam().precision == Precision::kFp32) {
    const std::size_t unmatched = bounds_.unmatched * ((count + 99) / 100);
    EXPECT_GE(matched + unmatched, count) << "missing";
    EXPECT_GE(matched + unmatched, got.size()) << "extra";
  }
  return rows;
}

// What the heads make of the golden boxes; `prefix`: what the golden stages' names have before ours.
void TfodTwoStage::expect_heads(const LoadedEngine& engine, const std::string& instead_of,
                                const std::vector<Corners>& boxes, std::int64_t rows,
                                const std::vector<std::string>& stages, const std::string& prefix) const {
  const GivenBoxesRun run = run_on_given_boxes(engine, photo(), instead_of, boxes, rows, stages);
  for (const std::string& name : stages)
    expect_rows(prefix + name, as_golden(name, run.stages.at(name)), run.rows);
}

// TensorFlow's reframe_box_masks_to_image_masks in double precision: the first and the last pixel of the
// photo and of the map are the edges, nothing is outside of the box. A pixel on the box's very edge (the
// photo's last row, under a box that ends there) is in or out as float32 rounds: it counts as it is in
// `ours`.
std::vector<std::uint8_t> pasted(const double* map, int side, const Corners& box, const Rle& ours) {
  const int height = ours.height, width = ours.width, last = side - 1;
  const auto at = [&](int pixel, int extent, double low, double high) {
    const double fraction = static_cast<double>(pixel) / (extent - 1);
    return (fraction - low / extent) / ((high - low) / extent) * last;
  };
  const auto is_edge = [&](double v) { return std::abs(v) < 1e-4 || std::abs(v - last) < 1e-4; };
  const auto is_outside = [&](double v) { return v < -1e-4 || v > last + 1e-4; };
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(height) * static_cast<std::size_t>(width));
  decode_mask(ours, mask.data());
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      const double v = at(y, height, box[1], box[3]), u = at(x, width, box[0], box[2]);
      const bool outside = is_outside(u) || is_outside(v);
      if (!outside && (is_edge(u) || is_edge(v))) continue;
      const int top = outside ? 0 : static_cast<int>(v), left = outside ? 0 : static_cast<int>(u);
      const double* cell = &map[top * side + left];
      const double b = v - top, a = u - left;
      mask[static_cast<std::size_t>(y * width + x)] =
          !outside &&
          (1 - b) * ((1 - a) * cell[0] + a * cell[1]) + b * ((1 - a) * cell[side] + a * cell[side + 1]) >=
              0.5;
    }
  return mask;
}

void TfodTwoStage::expect_mask_stages(const CaseRun& result, const Pairs& pairs) const {
  const auto row_of = result.stages.at("det_rows").values<std::int32_t>();
  std::vector<std::optional<std::size_t>> rows(
      static_cast<std::size_t>(golden_->doubles("det__num_detections").at(0)));
  for (const auto& [g, k] : pairs) rows[g] = static_cast<std::size_t>(row_of[k]);
  expect_rows("det__mask_predictions", as_golden("mask_predictions", result.stages.at("mask_predictions")),
              rows);
  expect_rows("det__detection_masks", result.stages.at("mask_probs"), rows);
}

void TfodTwoStage::expect_masks(const CaseRun& result, const Pairs& pairs) const {
  const auto& found = result.detections;
  const auto golden = golden_detections();
  const auto maps = golden_->doubles("det__detection_masks");
  const int side = static_cast<int>(golden_->tensor("det__detection_masks").dim(2));
  double worst_iou = 1;
  std::int64_t most_pixels = 0;
  for (const auto& [g, k] : pairs) {
    ASSERT_TRUE(found.items[k].mask.has_value());
    const Rle& ours = *found.items[k].mask;
    const auto mask = pasted(&maps[g * static_cast<std::size_t>(side * side)], side, golden[g].box, ours);
    const Rle both[] = {encode_mask(mask.data(), ours.height, ours.width), ours};
    const std::int64_t shared = mask_area(merge_masks(both, true)), all = mask_area(merge_masks(both, false));
    const double iou = all == 0 ? 1 : static_cast<double>(shared) / static_cast<double>(all);
    worst_iou = std::min(worst_iou, iou);
    most_pixels = std::max(most_pixels, all - shared);
    if (GetParam().precision != Precision::kFp32) continue;
    EXPECT_TRUE(iou >= 0.995 || all - shared <= 8)
        << "mask " << g << ": IoU " << iou << ", " << all - shared << " pixels differ";
  }
  std::printf("  masks: IoU at least %.5f, at most %ld pixels differ\n", worst_iou, most_pixels);
}

TEST_P(TfodTwoStage, EveryStageAndDetection) {
  const auto engine = build();
  // Stages as they are called here, with what the API adds to maps' names.
  const std::vector<std::pair<std::string, std::string>> maps{
      {"preprocessed", ""},
      {"rpn_features_to_crop", "_0"},
      {"rpn_box_predictor_features", "_0"},
      {"rpn_box_encodings", ""},
      {"rpn_objectness_predictions_with_background", ""}};
  const std::vector<std::string> by_proposal{"box_classifier_features", "refined_box_encodings",
                                             "class_predictions_with_background"};
  std::vector<std::string> wanted{"proposal_boxes", "det_boxes_net", "det_rows"};
  for (const auto& [name, suffix] : maps) wanted.push_back(name);
  wanted.insert(wanted.end(), by_proposal.begin(), by_proposal.end());
  if (has_masks()) wanted.insert(wanted.end(), {"mask_predictions", "mask_probs"});
  const auto opened = LoadedEngine::open(engine, {.tuning = quick_tuning()});
  for (const std::string& name : wanted)
    ASSERT_NE(opened->graph().find(name), kNoValue) << "the engine has no stage " << name;
  expect_anchors(opened->graph());

  const CaseRun result = run(engine, wanted);
  for (const auto& [name, suffix] : maps) expect_stage(name + suffix, {&result.stages.at(name)});
  const auto rows = expect_proposals(result.stages.at("proposal_boxes"));
  const bool boxes_moved = GetParam().precision == Precision::kFp16;  // and crops with them
  if (!boxes_moved)
    for (const std::string& name : by_proposal) expect_rows(name, result.stages.at(name), rows);
  else
    expect_heads(*opened, "proposal_boxes", golden_proposals(), result.stages.at("proposal_boxes").dim(0),
                 by_proposal);
  const auto pairs = expect_detections(result.detections);
  if (!has_masks()) return;
  if (!boxes_moved)
    expect_mask_stages(result, pairs);
  else
    expect_heads(*opened, "det_boxes_net", golden_boxes(), result.stages.at("det_boxes_net").dim(0),
                 {"mask_predictions"}, "det__");
  expect_masks(result, pairs);
}

std::vector<TfCase> on(const std::string& device, Precision precision) {
  std::vector<TfCase> out;
  for (const char* name : {"faster_rcnn_resnet50_v1_640", "faster_rcnn_resnet50_v1_800x1333",
                           "faster_rcnn_inception_resnet_v2_640", "mask_rcnn_inception_resnet_v2_1024"})
    for (const char* store : {"checkpoint", "saved_model"})
      if (device == "cpu" || std::string_view(store) == "checkpoint")
        out.push_back({name, store, device, precision});
  return out;
}

std::string case_name(const testing::TestParamInfo<TfCase>& c) { return name_of(c.param); }

INSTANTIATE_TEST_SUITE_P(Cases, TfodTwoStage, testing::ValuesIn(on("cpu", Precision::kFp32)), case_name);
INSTANTIATE_TEST_SUITE_P(CudaFp32, TfodTwoStage, testing::ValuesIn(on("cuda", Precision::kFp32)), case_name);
INSTANTIATE_TEST_SUITE_P(CudaFp16, TfodTwoStage, testing::ValuesIn(on("cuda", Precision::kFp16)), case_name);

}  // namespace
}  // namespace osprey
