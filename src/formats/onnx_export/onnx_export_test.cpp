#include "formats/onnx_export/onnx_export.h"

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/file.h"
#include "formats/onnx_export/lowering.h"

namespace osprey {
namespace {

// The smallest detector with every op that is lowered.
constexpr const char* kDetector = R"(graph small
input photos: u8[N,H,W,3]
input sizes: i32[N,2]
weight conv.weight: f32[2,3,1,1] = 1.0 2.0 3.0 4.0 5.0 6.0
weight score.weight: f32[2,2,1,1] = 1.0 2.0 3.0 4.0
weight delta.weight: f32[4,2,1,1] = 1.0 2.0 3.0 4.0 5.0 6.0 7.0 8.0
weight class.weight: f32[3,2] = 1.0 2.0 3.0 4.0 5.0 6.0
weight mask.weight: f32[2,2,1,1] = 1.0 2.0 3.0 4.0
weight share.a: f32[] = 0.5
weight share.b: f32[] = 1.5
resized, geometry = resize_image(photos, sizes) {bgr=true}
image = normalize_image(resized, geometry) {multiple=32}
p2 = conv(image, conv.weight) {stride=[4, 4]}
p3 = max_pool(p2) {kernel=[1, 1]}
up = upsample(p3)
sum = add(up, p2)
s2 = conv(sum, score.weight) {f32_out=true} @head.score
s3 = conv(p3, score.weight) {f32_out=true} @head.score
six = activate(sum) {kind='relu6'}
weighted = weighted_sum(six, p3, share.a, share.b) {activation='swish', scales=[1, 2]}
gates = global_average_pool(weighted)
gated = scale_channels(weighted, gates)
scaled = scale(gated) {factor=0.5}
d2 = conv(scaled, delta.weight) @head.delta
d3 = conv(p3, delta.weight) @head.delta
boxes, scores, groups = select_anchors(s2, d2, s3, d3, geometry) {strides=[4, 8], anchors=1, classes=2, cells=[-8.0, -8.0, 8.0, 8.0, -16.0, -16.0, 16.0, 16.0], group='class', activation='sigmoid', has_threshold=true, threshold=0.05}
rois, roi_scores, roi_classes = nms(boxes, scores, groups, geometry) {stage=1}
crops = roi_align(sum, p3, rois) {out=2, scales=[0.25, 0.125]}
pooled = global_average_pool(crops)
logits = linear(pooled, class.weight)
probabilities = softmax(logits)
moves = linear(pooled, box.weight)
refined = decode_boxes(rois, moves, geometry)
found, found_scores, found_classes = select_boxes(refined, probabilities, moves, geometry)
det_boxes_net, det_scores, det_classes = nms(found, found_scores, found_classes, geometry)
det_crops = roi_align(sum, p3, det_boxes_net) {out=2, scales=[0.25, 0.125]}
larger = upsample(det_crops) {mode='bilinear_corners', height=2, width=2}
maps = conv(larger, mask.weight)
mask_probs = select_class(maps, det_classes)
det_boxes, det_rows = rescale_boxes(det_boxes_net, geometry)
mask_runs, mask_ends = paste_masks(mask_probs, det_boxes, det_rows, geometry)
output det_boxes
output mask_runs
)";

class OnnxExport : public ::testing::Test {
 protected:
  std::filesystem::path path_ =
      std::filesystem::temp_directory_path() /
      fmt::format("osprey_export_{}.onnx", ::testing::UnitTest::GetInstance()->current_test_info()->name());
  Model model_;
  void SetUp() override {
    std::string text = kDetector;
    text.insert(text.find("weight mask"), "weight box.weight: f32[4,2] = 1.0 2.0 3.0 4.0 5.0 6.0 7.0 8.0\n");
    model_.graph = parse_graph(text);
    model_.categories = {{"cat", 1}, {"dog", 2}};
  }
  void TearDown() override { std::filesystem::remove(path_); }

  onnx::ModelProto exported() {
    export_onnx(model_, path_);
    return read_onnx_file(open_source(path_)).model;
  }
};

TEST_F(OnnxExport, HoldsOnlyStandardOpsUnderNamesOfTheirOwn) {
  const onnx::ModelProto model = exported();
  std::set<std::string> names, values;
  for (const auto& node : model.graph().node()) {
    EXPECT_EQ(node.domain(), "") << node.name();
    EXPECT_TRUE(names.insert(node.name()).second) << node.name();
    for (const auto& out : node.output()) EXPECT_TRUE(values.insert(out).second) << out;
  }
  ASSERT_EQ(model.opset_import_size(), 1);
  EXPECT_EQ(model.opset_import(0).version(), 17);
}

TEST_F(OnnxExport, GoesFromAnImageToDetections) {
  const onnx::ModelProto model = exported();
  ASSERT_EQ(model.graph().input_size(), 1);
  EXPECT_EQ(to_string(type_of_onnx(model.graph().input(0))), "f32[1,3,height,width]");
  std::vector<std::string> outputs;
  for (const auto& out : model.graph().output())
    outputs.push_back(out.name() + ": " + to_string(type_of_onnx(out)));
  EXPECT_THAT(outputs, ::testing::ElementsAre(
                           "num_detections: i32[1,1]", "detection_boxes: f32[1,detections,4]",
                           "detection_scores: f32[1,detections]", "detection_classes: i32[1,detections]",
                           "detection_masks: f32[1,detections,2,2]"));
}

TEST_F(OnnxExport, TakesChannelsLastWhereAsked) {
  export_onnx(model_, path_, /*channels_last=*/true);
  const onnx::ModelProto model = read_onnx_file(open_source(path_)).model;
  EXPECT_EQ(to_string(type_of_onnx(model.graph().input(0))), "f32[1,height,width,3]");
  EXPECT_EQ(model.graph().node(0).op_type(), "Transpose");
}

TEST_F(OnnxExport, TheSameModelGivesTheSameBytes) {
  exported();
  const std::string first = read_text(path_);
  exported();
  EXPECT_EQ(read_text(path_), first);
}

TEST_F(OnnxExport, WhatIsNoDetectorIsRefusedAndNothingIsWritten) {
  model_.graph = parse_graph("input x: f32[N,2]\ny = softmax(x)\noutput y\n");
  EXPECT_THROW(export_onnx(model_, path_), Error);
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(OnnxExport, AnOpWithoutASpellingIsNamed) {
  std::string text = to_text(model_.graph);
  const auto line = text.find("sum = add(up, p2)");
  text.insert(line, "fused = conv(p2, score.weight, _, p2)\n");
  text.replace(text.find("add(up, p2)"), 11, "add(up, fused)");
  model_.graph = parse_graph(text);
  try {
    exported();
    ADD_FAILURE() << "a fused convolution was exported";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), ::testing::HasSubstr("fused: conv cannot be exported"));
  }
}

}  // namespace
}  // namespace osprey
