// Every official model, built from a checkpoint of zeros with just the weights that it asks for.
#include "arch/detectron2/zoo.h"

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "arch/family/select.h"
#include "arch/testing.h"
#include "core/error.h"
#include "graph/graph.h"

namespace osprey {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

const Family& detectron2() {
  for (const Family& family : families())
    if (family.name == "detectron2") return family;
  throw std::logic_error("no family detectron2");
}

Model zeros(const std::string& config, std::vector<std::pair<std::string, std::string>> overrides = {}) {
  return build_with_zeros(detectron2(), {.config = config, .overrides = std::move(overrides)});
}

std::vector<std::string> output_names(const Graph& graph) {
  std::vector<std::string> names;
  for (const ValueId id : graph.outputs()) names.push_back(graph.value(id).name);
  return names;
}

// Trainable parameters, batch norms' scale and bias not counted: they are frozen.
std::int64_t parameters(const Graph& graph) {
  std::int64_t count = 0;
  for (const Weight& w : graph.weights()) {
    const Value& value = graph.value(w.value);
    std::int64_t size = value.name.find(".norm.") == std::string::npos ? 1 : 0;
    for (const Dim& d : value.type.dims) size *= d.constant();
    count += size;
  }
  return count;
}

// The first line of the graph's text that holds `part`.
std::string line_of(const std::string& text, const std::string& part) {
  const auto at = text.find(part);
  if (at == std::string::npos) return "no line has " + part;
  const auto begin = text.rfind('\n', at) + 1;
  return text.substr(begin, text.find('\n', at) - begin);
}

class Zoo : public testing::TestWithParam<std::pair<std::string, std::string>> {};

TEST_P(Zoo, BuildsCompletely) {
  const Model model = zeros(GetParam().first);
  EXPECT_THAT(model.weights.missing, IsEmpty());
  EXPECT_THAT(model.weights.unused, IsEmpty());
  EXPECT_THAT(output_names(model.graph), Contains("det_boxes"));
  const bool masks = GetParam().second.find("Mask") != std::string::npos;
  EXPECT_EQ(model.graph.find("mask_runs") != kNoValue, masks);
  EXPECT_EQ(model.graph.find("keypoints") != kNoValue,
            GetParam().second.find("Keypoint") != std::string::npos);
}

std::string test_name(const testing::TestParamInfo<Zoo::ParamType>& member) {
  std::string name = member.param.first;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, Zoo, testing::ValuesIn(detectron2().zoo()), test_name);

TEST(ZooTable, HoldsEveryRowOfTheOfficialTables) {
  std::set<std::string> names;
  for (const auto& [name, title] : detectron2().zoo()) names.insert(name);
  const auto expect = [&](const std::string& folder, std::initializer_list<const char*> rows) {
    for (const char* row : rows) EXPECT_TRUE(names.contains(folder + "/" + row)) << folder << "/" << row;
  };
  expect("COCO-Detection",
         {"faster_rcnn_R_50_C4_1x", "faster_rcnn_R_50_DC5_1x", "faster_rcnn_R_50_FPN_1x",
          "faster_rcnn_R_50_C4_3x", "faster_rcnn_R_50_DC5_3x", "faster_rcnn_R_50_FPN_3x",
          "faster_rcnn_R_101_C4_3x", "faster_rcnn_R_101_DC5_3x", "faster_rcnn_R_101_FPN_3x",
          "faster_rcnn_X_101_32x8d_FPN_3x", "retinanet_R_50_FPN_1x", "retinanet_R_50_FPN_3x",
          "retinanet_R_101_FPN_3x", "rpn_R_50_C4_1x", "rpn_R_50_FPN_1x", "fast_rcnn_R_50_FPN_1x"});
  expect("COCO-InstanceSegmentation",
         {"mask_rcnn_R_50_C4_1x", "mask_rcnn_R_50_DC5_1x", "mask_rcnn_R_50_FPN_1x", "mask_rcnn_R_50_C4_3x",
          "mask_rcnn_R_50_DC5_3x", "mask_rcnn_R_50_FPN_3x", "mask_rcnn_R_101_C4_3x", "mask_rcnn_R_101_DC5_3x",
          "mask_rcnn_R_101_FPN_3x", "mask_rcnn_X_101_32x8d_FPN_3x"});
  expect("COCO-Keypoints", {"keypoint_rcnn_R_50_FPN_1x", "keypoint_rcnn_R_50_FPN_3x",
                            "keypoint_rcnn_R_101_FPN_3x", "keypoint_rcnn_X_101_32x8d_FPN_3x"});
  expect("Misc",
         {"cascade_mask_rcnn_R_50_FPN_1x", "cascade_mask_rcnn_R_50_FPN_3x", "mask_rcnn_R_50_FPN_3x_syncbn"});
}

// The counts that torchvision publishes for the same architectures (41,755,286 for Faster R-CNN and so on),
// less the weights of its 91 classes that are not among COCO's 80 and, for RetinaNet, with p6 made from res5.
TEST(ZooTable, SizesAreThoseOfTheArchitectures) {
  EXPECT_EQ(parameters(zeros("faster_rcnn_R_50_FPN_3x").graph), 41'699'936);
  EXPECT_EQ(parameters(zeros("mask_rcnn_R_50_FPN_3x").graph), 44'343'216);
  EXPECT_EQ(parameters(zeros("keypoint_rcnn_R_50_FPN_3x").graph), 59'133'158);
  EXPECT_EQ(parameters(zeros("retinanet_R_50_FPN_3x").graph), 37'915'572);
  EXPECT_EQ(parameters(zeros("faster_rcnn_X_101_32x8d_FPN_3x").graph), 104'784'480);
}

TEST(ZooTable, SizesWithoutASecondOrFirstStage) {
  // ResNet-50's convolutions (torchvision's 25,557,032 less its classifier and batch norms), the pyramid's
  // laterals and outputs, and the head's three convolutions of 256 channels and 3 anchors a cell.
  const std::int64_t trunk = 25'557'032 - (2048 + 1) * 1000 - 53'120;
  const std::int64_t pyramid = (256 + 512 + 1024 + 2048 + 4) * 256 + 4 * (256 * 9 + 1) * 256;
  const std::int64_t head = (256 * 9 + 1) * 256 + (256 + 1) * 3 * (1 + 4);
  EXPECT_EQ(parameters(zeros("rpn_R_50_FPN_1x").graph), trunk + pyramid + head);
  // Faster R-CNN has that head on top.
  EXPECT_EQ(parameters(zeros("fast_rcnn_R_50_FPN_1x").graph), 41'699'936 - head);
  // C4 ends with res4, whose 1024 channels its head keeps; 15 anchors a cell.
  const std::int64_t res5 = 3 * (512 * 512 * 9 + 512 * 2048) + (1024 + 2 * 2048) * 512 + 1024 * 2048;
  const std::int64_t c4_head = (1024 * 9 + 1) * 1024 + (1024 + 1) * 15 * (1 + 4);
  EXPECT_EQ(parameters(zeros("rpn_R_50_C4_1x").graph), trunk - res5 + c4_head);
}

TEST(ZooTable, NamesMayLackFolderAndExtension) {
  const auto find_official = [](std::string_view name) { return detectron2::officials().find(name); };
  const auto* full = find_official("COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml");
  ASSERT_NE(full, nullptr);
  EXPECT_EQ(find_official("keypoint_rcnn_R_50_FPN_1x"), full);
  EXPECT_EQ(find_official("detectron2/configs/COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml"), full);
  EXPECT_EQ(find_official("../Base-RCNN-FPN.yaml")->name, "Base-RCNN-FPN");
  EXPECT_EQ(find_official("Base-Keypoint-RCNN-FPN.yaml")->name, "COCO-Keypoints/Base-Keypoint-RCNN-FPN");
  EXPECT_EQ(find_official("LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x")->name,
            "LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x");
  EXPECT_EQ(find_official("COCO-Detection/mask_rcnn_R_50_FPN_1x"), nullptr);
  EXPECT_EQ(find_official("nothing_like_it"), nullptr);
}

TEST(ZooTable, WhatIsNotSupportedIsRefusedByName) {
  for (const auto& row :
       {std::pair{"COCO-PanopticSegmentation/panoptic_fpn_R_50_3x", "MODEL.META_ARCHITECTURE"},
        {"Misc/mask_rcnn_R_50_FPN_3x_dconv_c3-c5", "MODEL.RESNETS.DEFORM_ON_PER_STAGE"},
        {"Misc/cascade_mask_rcnn_X_152_32x8d_FPN_IN5k_gn_dconv", "MODEL.RESNETS.DEFORM_ON_PER_STAGE"}})
    EXPECT_THAT(error_of([&] { zeros(row.first); }),
                AllOf(HasSubstr(row.second), HasSubstr("is not supported")))
        << row.first;
}

TEST(ZooGraphs, CarryTheStagesOfTheGoldens) {
  const Model model = zeros("mask_rcnn_R_50_FPN_3x");
  for (const char* stage : {"resized_u8",
                            "input",
                            "stem",
                            "res2",
                            "res5",
                            "p2",
                            "p6",
                            "rpn_logits_p2",
                            "rpn_deltas_p6",
                            "proposal_boxes",
                            "proposal_logits",
                            "box_pooler_out_0",
                            "box_head_feat_0",
                            "box_logits_0",
                            "box_deltas_0",
                            "det_boxes_net",
                            "det_scores",
                            "det_classes",
                            "mask_pooler_out",
                            "mask_logits",
                            "mask_probs",
                            "det_boxes",
                            "det_rows",
                            "mask_runs",
                            "mask_ends"})
    EXPECT_NE(model.graph.find(stage), kNoValue) << stage;
  const Model c4 = zeros("mask_rcnn_R_50_C4_1x");
  for (const char* stage : {"rpn_logits_res4", "box_pooler_out_0", "box_pooler_out_1", "mask_probs"})
    EXPECT_NE(c4.graph.find(stage), kNoValue) << stage;
  const Model retina = zeros("retinanet_R_50_FPN_1x");
  for (const char* stage : {"p3", "p7", "cls_logits_p3", "box_deltas_p7"})
    EXPECT_NE(retina.graph.find(stage), kNoValue) << stage;
  EXPECT_EQ(retina.graph.find("p2"), kNoValue);
  const Model cascade = zeros("cascade_mask_rcnn_R_50_FPN_1x");
  for (const char* stage : {"box_logits_0", "box_deltas_1", "box_pooler_out_2", "box_head_feat_2"})
    EXPECT_NE(cascade.graph.find(stage), kNoValue) << stage;
}

TEST(ZooGraphs, TypesAreThoseOfThePapers) {
  const auto type = [](const Model& m, const char* name) {
    return to_string(m.graph.value(m.graph.find(name)).type);
  };
  const Model mask = zeros("mask_rcnn_R_50_FPN_3x");
  EXPECT_EQ(type(mask, "input"), "f32[N,3,32*h,32*w]");
  EXPECT_EQ(type(mask, "res5"), "f32[N,2048,h,w]");
  EXPECT_EQ(type(mask, "p6"), "f32[N,256,(h+1)/2,(w+1)/2]");
  EXPECT_EQ(type(mask, "proposal_boxes"), "f32[<=1000*N,5]");
  EXPECT_EQ(type(mask, "box_deltas_0"), "f32[<=1000*N,320]");
  EXPECT_EQ(type(mask, "mask_logits"), "f32[<=100*N,80,28,28]");
  const Model c4 = zeros("mask_rcnn_R_101_C4_3x");
  EXPECT_EQ(type(c4, "input"), "f32[N,3,h,w]");
  EXPECT_EQ(type(c4, "mask_logits"), "f32[<=100*N,80,14,14]");
  EXPECT_EQ(type(zeros("faster_rcnn_R_50_DC5_1x"), "rpn_logits_res5"), "f32[N,15,(h+15)/16,(w+15)/16]");
  EXPECT_EQ(type(zeros("keypoint_rcnn_R_50_FPN_1x"), "keypoint_logits"), "f32[<=100*N,17,56,56]");
  EXPECT_EQ(type(zeros("retinanet_R_50_FPN_1x"), "cls_logits_p7"), "f32[N,720,(h+3)/4,(w+3)/4]");
}

// Proposals are detections without classes: their limits are those of the config, their thresholds those of
// detections.
TEST(ZooGraphs, ProposalNetworksDetectObjects) {
  const Model fpn = zeros("rpn_R_50_FPN_1x");
  EXPECT_THAT(output_names(fpn.graph),
              testing::ElementsAre("proposal_boxes", "proposal_logits", "det_boxes", "det_rows"));
  EXPECT_EQ(to_string(fpn.graph.value(fpn.graph.find("det_boxes")).type), "f32[<=2000*N,5]");
  ASSERT_THAT(fpn.categories, SizeIs(1));
  EXPECT_EQ(fpn.categories[0].name, "object");
  const std::string text = to_text(fpn.graph);
  EXPECT_THAT(line_of(text, " nms("), AllOf(HasSubstr("iou=0.7"), HasSubstr("max_detections=2000")));
  EXPECT_EQ(to_string(fpn.graph.value(fpn.graph.find("proposal_generator.select")).type), "f32[<=5000*N,5]");
  EXPECT_THAT(text, testing::Not(HasSubstr("stage=1")));
  const std::string c4 = to_text(zeros("rpn_R_50_C4_1x").graph);
  EXPECT_THAT(line_of(c4, "select_anchors"), HasSubstr("top=12000"));
  EXPECT_THAT(line_of(c4, " nms("), HasSubstr("max_detections=2000"));
  EXPECT_THAT(error_of([&] {
                zeros("rpn_R_50_FPN_1x", {{"MODEL.META_ARCHITECTURE", "SemanticSegmentor"}});
              }),
              HasSubstr("only GeneralizedRCNN, RetinaNet and ProposalNetwork are"));
}

TEST(ZooGraphs, FastRcnnTakesProposals) {
  const Model model = zeros("fast_rcnn_R_50_FPN_1x");
  const Graph& graph = model.graph;
  ASSERT_NE(graph.find("proposals"), kNoValue);
  EXPECT_EQ(to_string(graph.value(graph.find("proposals")).type), "f32[<=1024*P,5]");
  EXPECT_EQ(to_string(graph.value(graph.find("proposal_boxes")).type), "f32[<=1000*N,5]");
  EXPECT_THAT(line_of(to_text(graph), "rescale_boxes(proposals"),
              AllOf(HasSubstr("to_network=true"), HasSubstr("top=1000")));
  const auto changed = [](std::vector<std::pair<std::string, std::string>> keys) {
    return error_of([&] { zeros("fast_rcnn_R_50_FPN_1x", std::move(keys)); });
  };
  EXPECT_THAT(changed({{"MODEL.LOAD_PROPOSALS", "False"}}),
              AllOf(HasSubstr("MODEL.LOAD_PROPOSALS"), HasSubstr("have to be loaded")));
  EXPECT_THAT(changed({{"MODEL.META_ARCHITECTURE", "ProposalNetwork"}}), HasSubstr("make them itself"));
  EXPECT_THAT(changed({{"MODEL.PROPOSAL_GENERATOR.NAME", "RRPN"}}),
              HasSubstr("only RPN and PrecomputedProposals are"));
  const Model few = zeros("fast_rcnn_R_50_FPN_1x", {{"DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST", "300"},
                                                    {"MODEL.PROPOSAL_GENERATOR.MIN_SIZE", "2"}});
  EXPECT_THAT(line_of(to_text(few.graph), "rescale_boxes(proposals"),
              AllOf(HasSubstr("top=300"), HasSubstr("min_size=2.0")));
}

TEST(ZooGraphs, ResNeXtStridesInItsGroupedConvolution) {
  const std::string text = to_text(zeros("mask_rcnn_X_101_32x8d_FPN_3x").graph);
  EXPECT_THAT(line_of(text, "res3.0.conv2 = conv("),
              AllOf(HasSubstr("groups=32"), HasSubstr("stride=[2, 2]")));
  EXPECT_THAT(line_of(text, "normalize_image"), HasSubstr("57.375, 57.12, 58.395"));
}

TEST(ZooGraphs, FixedSizeIsACanvasWithColouredBorder) {
  const Model model =
      build_with_zeros(detectron2(), {.config = "mask_rcnn_R_50_FPN_3x", .height = 1344, .width = 1344});
  const std::string text = to_text(model.graph);
  EXPECT_THAT(line_of(text, "resize_image"), HasSubstr("canvas_height=1344"));
  EXPECT_THAT(line_of(text, "normalize_image"), HasSubstr("fill=[104.0, 116.0, 124.0]"));
  EXPECT_THAT(line_of(text, "rescale_boxes"), HasSubstr("clip=false"));
  EXPECT_THAT(error_of([&] {
                build_with_zeros(detectron2(),
                                 {.config = "mask_rcnn_R_50_FPN_3x", .height = 1333, .width = 800});
              }),
              HasSubstr("multiples of 32, such as 1344x800"));
}

TEST(ZooLabels, FollowTheDataSet) {
  const auto coco = zeros("faster_rcnn_R_50_FPN_1x").categories;
  ASSERT_THAT(coco, SizeIs(80));
  EXPECT_EQ(coco.front().name, "person");
  EXPECT_EQ(coco.back().id, 90);
  EXPECT_EQ(zeros("PascalVOC-Detection/faster_rcnn_R_50_C4").categories.at(14).name, "person");
  EXPECT_EQ(zeros("Cityscapes/mask_rcnn_R_50_FPN").categories.at(1).name, "rider");
  EXPECT_EQ(zeros("keypoint_rcnn_R_50_FPN_3x").categories.at(0).name, "person");
  EXPECT_EQ(zeros("LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x").categories.at(1202).name,
            "class 1202");
  EXPECT_EQ(zeros("faster_rcnn_R_50_FPN_1x", {{"MODEL.ROI_HEADS.NUM_CLASSES", "3"}}).categories.at(2).name,
            "class 2");
}

TEST(Select, SaysWhatItSaw) {
  ImportRequest request{.source = "strange.pth", .checkpoint = {.format = "torch zip"}};
  request.checkpoint.tensors.push_back({.name = "encoder.weight"});
  EXPECT_THAT(error_of([&] { import_model(request); }),
              AllOf(HasSubstr("strange.pth"), HasSubstr("detectron2"), HasSubstr("encoder.weight")));
}

}  // namespace
}  // namespace osprey
