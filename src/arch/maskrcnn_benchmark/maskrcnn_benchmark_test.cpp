// The family over checkpoints of zeros, and its names.
#include <algorithm>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "arch/family/select.h"
#include "arch/maskrcnn_benchmark/checkpoint.h"
#include "arch/maskrcnn_benchmark/options.h"
#include "arch/testing.h"
#include "graph/graph.h"
#include "ops/group_norm.h"
#include "ops/nms.h"
#include "ops/select_anchors.h"

namespace osprey::maskrcnn_benchmark {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

using Overrides = std::vector<std::pair<std::string, std::string>>;

const Family& family() {
  for (const Family& f : families())
    if (f.name == "maskrcnn_benchmark") return f;
  throw std::logic_error("no family maskrcnn_benchmark");
}

Model zeros(const std::string& config, Overrides overrides = {}) {
  return build_with_zeros(family(), {.config = config, .overrides = std::move(overrides)});
}

std::string refusal(const std::string& config, Overrides overrides = {}) {
  return error_of([&] { zeros(config, std::move(overrides)); });
}

NamedTensor tensor(const std::string& section, const std::string& name, const Shape& shape = {1}) {
  return {.section = section, .name = name, .shape = shape, .load = [shape] {
            Tensor out = Tensor::zeros(DType::kF32, shape);
            float next = 0;
            for (float& v : out.mutable_values<float>()) v = next++;
            return out;
          }};
}

template <class Op>
std::vector<Op> ops_of(const Graph& graph) {
  std::vector<Op> out;
  for (const Node& node : graph.nodes())
    if (const auto* op = node.op.template as<Op>()) out.push_back(*op);
  return out;
}

class MaskrcnnBenchmarkZoo : public testing::TestWithParam<std::pair<std::string, std::string>> {};

TEST_P(MaskrcnnBenchmarkZoo, BuildsCompletely) {
  const Model model = zeros(GetParam().first);
  EXPECT_THAT(model.weights.missing, IsEmpty());
  EXPECT_THAT(model.weights.unused, IsEmpty());
  EXPECT_NE(model.graph.find("det_boxes"), kNoValue);
  const std::string& title = GetParam().second;
  EXPECT_EQ(model.graph.find("mask_runs") != kNoValue, title.find("Mask") != std::string::npos);
  EXPECT_EQ(model.graph.find("keypoints") != kNoValue, title.find("Keypoint") != std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(All, MaskrcnnBenchmarkZoo, testing::ValuesIn(family().zoo()),
                         [](const auto& member) {
                           std::string name = member.param.first;
                           for (char& c : name)
                             if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
                           return name;
                         });

TEST(MaskrcnnBenchmarkConfig, OfficialNamesAreFoundHoweverTheyAreWritten) {
  const auto* root = officials().find("e2e_mask_rcnn_R_50_FPN_1x.yaml");
  ASSERT_NE(root, nullptr);
  EXPECT_EQ(root->name, "e2e_mask_rcnn_R_50_FPN_1x");
  EXPECT_EQ(officials().find("configs/e2e_mask_rcnn_R_50_FPN_1x.yaml"), root);
  EXPECT_EQ(officials().find("../configs/e2e_mask_rcnn_R_50_FPN_1x.yaml"), root);
  EXPECT_EQ(officials().find("../configs/caffe2/e2e_mask_rcnn_R_50_FPN_1x_caffe2.yaml")->name,
            "caffe2/e2e_mask_rcnn_R_50_FPN_1x_caffe2");
  EXPECT_EQ(officials().find("test_time_aug/e2e_mask_rcnn_R_50_FPN_1x")->title, "");
  EXPECT_EQ(officials().find("mask_rcnn_R_50_FPN_3x"), nullptr) << "that is Detectron2's";
}

TEST(MaskrcnnBenchmarkConfig, WhatIsNotSupportedIsRefusedByName) {
  EXPECT_THAT(refusal("dcn/e2e_faster_rcnn_dconv_R_50_FPN_1x"), HasSubstr("MODEL.RESNETS.STAGE_WITH_DCN"));
  EXPECT_THAT(refusal("test_time_aug/e2e_mask_rcnn_R_50_FPN_1x"), HasSubstr("TEST.BBOX_AUG.ENABLED"));
  const std::string fpn = "e2e_mask_rcnn_R_50_FPN_1x";
  for (const auto& [key, value] : Overrides{{"MODEL.RPN.RPN_HEAD", "BestRPNHead"},
                                            {"MODEL.BACKBONE.CONV_BODY", "VGG-16"},
                                            {"MODEL.RESNETS.STEM_FUNC", "StemWithGN"},
                                            {"MODEL.ROI_BOX_HEAD.FEATURE_EXTRACTOR", "FBNet.roi_head"},
                                            {"MODEL.ROI_BOX_HEAD.PREDICTOR", "FastRCNNPredictor"},
                                            {"MODEL.ROI_MASK_HEAD.PREDICTOR", "MaskRCNNBest"},
                                            {"MODEL.ROI_MASK_HEAD.SHARE_BOX_FEATURE_EXTRACTOR", "True"},
                                            {"MODEL.ROI_MASK_HEAD.POSTPROCESS_MASKS", "True"},
                                            {"MODEL.ROI_BOX_HEAD.POOLER_SCALES", "(0.25, 0.2)"},
                                            {"MODEL.ROI_HEADS.SCORE_THRESH", "-1"},
                                            {"DATALOADER.SIZE_DIVISIBILITY", "0"},
                                            {"MODEL.RPN.ANCHOR_STRIDE", "(4, 8, 16, 32)"},
                                            {"MODEL.RPN.USE_FPN", "False"},
                                            {"MODEL.RPN_ONLY", "True"},
                                            {"MODEL.NO_SUCH_KEY", "1"}})
    EXPECT_THAT(refusal(fpn, {{key, value}}), AllOf(Not("no error"), HasSubstr(key.substr(0, 9)))) << key;
  EXPECT_THAT(refusal("e2e_faster_rcnn_R_50_C4_1x", {{"MODEL.RESNETS.BACKBONE_OUT_CHANNELS", "256"}}),
              HasSubstr("this trunk gives 1024 channels"));
}

TEST(MaskrcnnBenchmarkConfig, KeysChangeTheGraph) {
  const Model model = zeros("e2e_faster_rcnn_R_50_FPN_1x", {{"MODEL.RPN.POST_NMS_TOP_N_TEST", "300"},
                                                            {"MODEL.RPN.NMS_THRESH", "0.6"},
                                                            {"MODEL.ROI_HEADS.NMS", "0"},
                                                            {"MODEL.ROI_HEADS.DETECTIONS_PER_IMG", "7"},
                                                            {"MODEL.ROI_BOX_HEAD.NUM_CLASSES", "4"}});
  const auto nms = ops_of<Nms>(model.graph);
  ASSERT_THAT(nms, SizeIs(2));
  EXPECT_EQ(nms[0].max_per_group, 300);
  EXPECT_EQ(nms[0].max_detections, 1000);
  EXPECT_FLOAT_EQ(nms[0].iou, 0.6f);
  EXPECT_EQ(nms[1].iou, 0);
  EXPECT_EQ(nms[1].max_detections, 7);
  EXPECT_TRUE(nms[0].inclusive && nms[1].inclusive);
  EXPECT_THAT(model.categories, SizeIs(3));
  EXPECT_EQ(model.categories[0].name, "class 0");
}

// Names of norms are those of PyTorch's Sequentials, but in the trunk.
TEST(MaskrcnnBenchmarkConfig, GroupNorms) {
  const std::string name = "gn_baselines/e2e_mask_rcnn_R_50_FPN_Xconv1fc_1x_gn";
  const auto norms = [](const Model& model) {
    std::map<std::string, GroupNorm> out;
    for (const Node& node : model.graph.nodes())
      if (const auto* op = node.op.as<GroupNorm>()) out.emplace(node.name, *op);
    return out;
  };
  const auto standard = norms(zeros(name));
  for (const char* layer :
       {"backbone.body.stem.bn1", "backbone.body.layer4.0.downsample.1", "backbone.fpn.fpn_inner4.1",
        "backbone.fpn.fpn_layer1.1", "roi_heads.box.feature_extractor.xconvs.10",
        "roi_heads.mask.feature_extractor.mask_fcn4.1"})
    EXPECT_TRUE(standard.contains(layer)) << layer;
  EXPECT_EQ(standard.begin()->second.groups, 32);

  const auto wide =
      norms(zeros("gn_baselines/e2e_faster_rcnn_R_50_FPN_1x_gn", {{"MODEL.GROUP_NORM.NUM_GROUPS", "-1"},
                                                                  {"MODEL.GROUP_NORM.DIM_PER_GP", "16"},
                                                                  {"MODEL.GROUP_NORM.EPSILON", "0.01"}}));
  EXPECT_EQ(wide.at("roi_heads.box.feature_extractor.fc6.1").groups, 64);
  EXPECT_EQ(wide.at("backbone.body.stem.bn1").groups, 4);
  EXPECT_FLOAT_EQ(wide.at("backbone.body.stem.bn1").epsilon, 0.01f);
  for (const auto& [key, value] : Overrides{{"MODEL.GROUP_NORM.NUM_GROUPS", "-1"},
                                            {"MODEL.GROUP_NORM.NUM_GROUPS", "0"},
                                            {"MODEL.GROUP_NORM.DIM_PER_GP", "8"},
                                            {"MODEL.GROUP_NORM.EPSILON", "-1"}})
    EXPECT_THAT(refusal(name, {{key, value}}), HasSubstr("MODEL.GROUP_NORM")) << key;
  EXPECT_THAT(refusal(name, {{"MODEL.GROUP_NORM.NUM_GROUPS", "48"}}), HasSubstr("in 48 groups"));
}

// Without suppression the framework keeps all candidates of a level, too.
TEST(MaskrcnnBenchmarkConfig, NoSuppressionNoLimitOfALevel) {
  const Model model = zeros("e2e_faster_rcnn_R_50_C4_1x", {{"MODEL.RPN.NMS_THRESH", "0"}});
  EXPECT_EQ(ops_of<Nms>(model.graph)[0].max_detections, 6000);
}

// The framework tells by the widths: equal ones make it start P6 from P5 though USE_C5 is set.
TEST(MaskrcnnBenchmarkConfig, P6StartsFromP5WhereWidthsAreEqual) {
  const auto shape_of_p6 = [](Overrides overrides) {
    const Model model = zeros("retinanet/retinanet_R-50-FPN_1x", std::move(overrides));
    for (const Node& node : model.graph.nodes())
      if (node.name == "backbone.fpn.top_blocks.p6") return model.graph.value(node.inputs[0]).name;
    return std::string("none");
  };
  EXPECT_EQ(shape_of_p6({}), "body.layer4");
  EXPECT_EQ(shape_of_p6({{"MODEL.RETINANET.USE_C5", "False"}}), "feature_2");
  EXPECT_EQ(shape_of_p6({{"MODEL.RESNETS.BACKBONE_OUT_CHANNELS", "2048"}}), "feature_2");
}

TEST(MaskrcnnBenchmarkCheckpoint, IsRecognised) {
  Checkpoint own;
  own.tensors = {tensor("model", "module.backbone.body.stem.conv1.weight")};
  EXPECT_EQ(family().recognise({.checkpoint = own}), 2);
  Checkpoint detectron;
  detectron.tensors = {tensor("blobs", "conv_rpn_fpn2_w")};
  EXPECT_EQ(family().recognise({.checkpoint = detectron}), 0) << "which config it is tells";
  EXPECT_EQ(family().recognise({.checkpoint = detectron, .config = "mask_rcnn_R_50_FPN_3x"}), 0);
  EXPECT_EQ(select_family(
                {.checkpoint = detectron, .config = "configs/caffe2/e2e_mask_rcnn_R_50_FPN_1x_caffe2.yaml"})
                .name,
            "maskrcnn_benchmark");
}

TEST(MaskrcnnBenchmarkCheckpoint, DetectronsBlobsAreRenamed) {
  const auto renamed = [](const std::string& blob) {
    Checkpoint checkpoint;
    checkpoint.tensors = {tensor("blobs", blob, {4}), tensor("blobs", "res2_0_branch2a_w"),
                          tensor("blobs", blob + "_momentum")};
    return tensors_of(checkpoint).front().name;
  };
  EXPECT_EQ(renamed("conv1_w"), "conv1.weight");
  EXPECT_EQ(renamed("res_conv1_bn_s"), "bn1.weight");
  EXPECT_EQ(renamed("res4_22_branch2c_w"), "layer3.22.conv3.weight");
  EXPECT_EQ(renamed("res3_0_branch2b_bn_b"), "layer2.0.bn2.bias");
  EXPECT_EQ(renamed("res5_0_branch1_w"), "layer4.0.downsample.0.weight");
  EXPECT_EQ(renamed("res5_0_branch1_bn_s"), "layer4.0.downsample.1.weight");
  EXPECT_EQ(renamed("fpn_inner_res5_2_sum_w"), "fpn_inner4.weight");
  EXPECT_EQ(renamed("fpn_inner_res2_2_sum_lateral_b"), "fpn_inner1.bias");
  EXPECT_EQ(renamed("fpn_res4_22_sum_w"), "fpn_layer3.weight");
  EXPECT_EQ(renamed("conv_rpn_fpn2_b"), "rpn.head.conv.bias");
  EXPECT_EQ(renamed("rpn_bbox_pred_w"), "rpn.head.bbox_pred.weight");
  EXPECT_EQ(renamed("_[mask]_fcn4_w"), "mask_fcn4.weight");
  EXPECT_EQ(renamed("kps_score_lowres_w"), "kps_score_lowres.weight");
}

// Weights are found by the longest name that theirs ends with, and one tensor may serve two.
TEST(MaskrcnnBenchmarkCheckpoint, NamesAreFoundByTheirEnd) {
  const std::vector<NamedTensor> tensors{tensor("", "conv1.weight"), tensor("", "layer1.0.conv1.weight"),
                                         tensor("", "whole"), tensor("", "spare")};
  const auto found = found_by_suffix(tensors, {"body.layer1.0.conv1.weight", "body.stem.conv1.weight",
                                               "whole", "other.conv1.weight", "absent"});
  std::vector<std::string> names;
  for (const NamedTensor& t : found) names.push_back(t.name);
  EXPECT_THAT(names, ElementsAre("body.layer1.0.conv1.weight", "body.stem.conv1.weight", "other.conv1.weight",
                                 "whole", "spare"));
}

// The anchors are among the weights, and what the file has counts, not the config.
TEST(MaskrcnnBenchmarkCheckpoint, AnchorsComeFromTheFile) {
  ImportRequest request{.source = "zeros.pth", .checkpoint = {}, .config = "e2e_faster_rcnn_R_50_C4_1x"};
  request.checkpoint.tensors = zeros_for(error_of([&] { family().build(request); }));
  const auto generated = ops_of<SelectAnchors>(family().build(request).graph).at(0).cells;
  EXPECT_FLOAT_EQ(generated.at(0), -15);  // 32 pixels of ratio 0.5: 46 x 24 around 7.5
  request.checkpoint.tensors.push_back(tensor("model", "rpn.anchor_generator.cell_anchors.0", {15, 4}));
  const Model model = family().build(request);
  EXPECT_FLOAT_EQ(ops_of<SelectAnchors>(model.graph).at(0).cells.at(7), 7);
  EXPECT_THAT(model.weights.unused, IsEmpty());
  request.checkpoint.tensors.back() = tensor("model", "rpn.anchor_generator.cell_anchors.0", {9, 4});
  EXPECT_THAT(
      error_of([&] { family().build(request); }),
      HasSubstr("rpn.anchor_generator.cell_anchors.0: the file has [9, 4], the config asks for [15, 4]"));
}

// An extractor that the mask head shares is in the file twice.
TEST(MaskrcnnBenchmarkCheckpoint, CopiesOfASharedExtractorAreNoLeftovers) {
  ImportRequest request{.source = "zeros.pth", .checkpoint = {}, .config = "e2e_mask_rcnn_R_50_C4_1x"};
  request.checkpoint.tensors = zeros_for(error_of([&] { family().build(request); }));
  EXPECT_THAT(request.checkpoint.tensors,
              Contains(testing::Field(&NamedTensor::name, "roi_heads.mask.predictor.conv5_mask.weight")));
  request.checkpoint.tensors.push_back(
      tensor("model", "roi_heads.mask.feature_extractor.head.layer4.0.conv1.weight", {512, 1024, 1, 1}));
  EXPECT_THAT(family().build(request).weights.unused, IsEmpty());
}

}  // namespace
}  // namespace osprey::maskrcnn_benchmark
