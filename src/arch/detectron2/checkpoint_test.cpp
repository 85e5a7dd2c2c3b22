#include "arch/detectron2/checkpoint.h"

#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "arch/family/select.h"
#include "arch/family/training_checkpoint.h"
#include "arch/testing.h"

namespace osprey::detectron2 {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

NamedTensor tensor(const std::string& section, const std::string& name, const Shape& shape = {1}) {
  return {.section = section, .name = name, .shape = shape, .load = [shape] {
            Tensor out = Tensor::zeros(DType::kF32, shape);
            float next = 0;
            for (float& v : out.mutable_values<float>()) v = next++;
            return out;
          }};
}

std::vector<std::string> names(const std::vector<NamedTensor>& tensors) {
  std::vector<std::string> out;
  for (const NamedTensor& t : tensors) out.push_back(t.name);
  return out;
}

TEST(ModelTensors, ComeFromTheirSectionWithoutWrappers) {
  Checkpoint training;
  training.tensors = {tensor("model", "module.backbone.stem.conv1.weight"), tensor("model", "pixel_mean"),
                      tensor("optimizer/state/0", "momentum_buffer"),
                      tensor("ema_state", "backbone.stem.conv1.weight")};
  EXPECT_THAT(names(model_tensors(training)), ElementsAre("backbone.stem.conv1.weight", "pixel_mean",
                                                          "ema_state/backbone.stem.conv1.weight"));
  Checkpoint flat;
  flat.tensors = {tensor("", "backbone.stem.conv1.weight")};
  EXPECT_THAT(names(model_tensors(flat)), ElementsAre("backbone.stem.conv1.weight"));
}

TEST(ModelTensors, LeftoversOfZooFilesAreKnown) {
  for (const char* name :
       {"pixel_mean", "pixel_std", "anchor_generator.cell_anchors.3",
        "proposal_generator.anchor_generator.cell_anchors.0", "backbone.stem.conv1.norm.num_batches_tracked"})
    EXPECT_TRUE(is_leftover(name)) << name;
  EXPECT_FALSE(is_leftover("backbone.stem.conv1.weight"));
}

class Detectron1 : public testing::Test {
 protected:
  std::map<std::string, NamedTensor> convert(std::vector<NamedTensor> tensors,
                                             const Detectron1Names& how = {}) {
    Checkpoint checkpoint;
    checkpoint.tensors = std::move(tensors);
    std::map<std::string, NamedTensor> out;
    for (NamedTensor& t : from_detectron1(checkpoint, how)) out.emplace(t.name, t);
    return out;
  }
  std::string renamed(const std::string& blob, const Detectron1Names& how = {}) {
    return convert({tensor("blobs", blob, {8})}, how).begin()->first;
  }
};

TEST_F(Detectron1, BlobsGetTheNamesOfModules) {
  EXPECT_EQ(renamed("conv1_w"), "backbone.bottom_up.stem.conv1.weight");
  EXPECT_EQ(renamed("res4_22_branch2c_w"), "backbone.bottom_up.res4.22.conv3.weight");
  EXPECT_EQ(renamed("res2_0_branch1_w"), "backbone.bottom_up.res2.0.shortcut.weight");
  EXPECT_EQ(renamed("fpn_inner_res5_2_sum_w"), "backbone.fpn_lateral5.weight");
  EXPECT_EQ(renamed("fpn_inner_res4_5_sum_lateral_b"), "backbone.fpn_lateral4.bias");
  EXPECT_EQ(renamed("fpn_res2_2_sum_w"), "backbone.fpn_output2.weight");
  EXPECT_EQ(renamed("conv_rpn_fpn2_w"), "proposal_generator.rpn_head.conv.weight");
  EXPECT_EQ(renamed("rpn_bbox_pred_fpn2_b"), "proposal_generator.rpn_head.anchor_deltas.bias");
  EXPECT_EQ(renamed("rpn_cls_logits_w"), "proposal_generator.rpn_head.objectness_logits.weight");
  EXPECT_EQ(renamed("fc7_w"), "roi_heads.box_head.fc2.weight");
  EXPECT_EQ(renamed("_[mask]_fcn3_w"), "roi_heads.mask_head.mask_fcn3.weight");
  EXPECT_EQ(renamed("conv5_mask_b"), "roi_heads.mask_head.deconv.bias");
  EXPECT_EQ(renamed("conv_fcn8_w"), "roi_heads.keypoint_head.conv_fcn8.weight");
  EXPECT_EQ(renamed("kps_score_lowres_w"), "roi_heads.keypoint_head.score_lowres.weight");
  EXPECT_EQ(renamed("pred_w"), "pred_w");
}

TEST_F(Detectron1, TrunksWithoutPyramidPutRes5IntoTheHeads) {
  const Detectron1Names c4{.pyramid = false, .res5_in_heads = true};
  EXPECT_EQ(renamed("res4_0_branch2a_w", c4), "backbone.res4.0.conv1.weight");
  EXPECT_EQ(renamed("res5_0_branch2a_w", c4), "roi_heads.res5.0.conv1.weight");
}

TEST_F(Detectron1, AffineNormsGetStatistics) {
  const auto out = convert({tensor("blobs", "res_conv1_bn_s", {2}), tensor("blobs", "res_conv1_bn_b", {2})});
  const std::string norm = "backbone.bottom_up.stem.conv1.norm.";
  ASSERT_EQ(out.size(), 4u);
  EXPECT_THAT(out.at(norm + "running_mean").load().values<float>(), ElementsAre(0, 0));
  EXPECT_THAT(out.at(norm + "running_var").load().values<float>(), ElementsAre(1, 1));
}

TEST_F(Detectron1, BackgroundMovesBehindTheClasses) {
  const auto out = convert({tensor("blobs", "cls_score_w", {3, 2}), tensor("blobs", "bbox_pred_b", {12}),
                            tensor("blobs", "mask_fcn_logits_b", {3}), tensor("blobs", "fc6_w_momentum")});
  const NamedTensor& scores = out.at("roi_heads.box_predictor.cls_score.weight");
  EXPECT_EQ(scores.shape, (Shape{3, 2}));
  EXPECT_THAT(scores.load().values<float>(), ElementsAre(2, 3, 4, 5, 0, 1));
  EXPECT_THAT(out.at("roi_heads.box_predictor.bbox_pred.bias").load().values<float>(),
              ElementsAre(4, 5, 6, 7, 8, 9, 10, 11));
  EXPECT_THAT(out.at("roi_heads.mask_head.predictor.bias").load().values<float>(), ElementsAre(1, 2));
  EXPECT_EQ(out.size(), 3u);
}

// The inverse of the renaming, for a whole model.
std::string blob_of(std::string name) {
  const auto replace = [&](const std::string& from, const std::string& to) {
    if (const auto at = name.find(from); at != std::string::npos) name.replace(at, from.size(), to);
  };
  const bool stem = name.find(".stem.conv1") != std::string::npos;
  replace("backbone.bottom_up.stem.conv1",
          stem && name.find(".norm.") != std::string::npos ? "res_conv1" : "conv1");
  replace("backbone.bottom_up.", "");
  for (int level = 2; level <= 5; ++level) {
    replace(fmt::format("backbone.fpn_lateral{}", level),
            fmt::format("fpn_inner_res{}_9_sum_lateral", level));
    replace(fmt::format("backbone.fpn_output{}", level), fmt::format("fpn_res{}_9_sum", level));
  }
  replace("proposal_generator.rpn_head.conv", "conv_rpn_fpn2");
  replace("proposal_generator.rpn_head.objectness_logits", "rpn_cls_logits_fpn2");
  replace("proposal_generator.rpn_head.anchor_deltas", "rpn_bbox_pred_fpn2");
  replace("roi_heads.box_head.fc1", "fc6");
  replace("roi_heads.box_head.fc2", "fc7");
  replace("roi_heads.box_predictor.", "");
  replace("roi_heads.mask_head.mask_fcn", "_[mask]_fcn");
  replace("roi_heads.mask_head.deconv", "conv5_mask");
  replace("roi_heads.mask_head.predictor", "mask_fcn_logits");
  if (name.starts_with("res") && !stem) {
    replace(".shortcut", "_branch1");
    replace(".conv1", "_branch2a");
    replace(".conv2", "_branch2b");
    replace(".conv3", "_branch2c");
    replace(".", "_");
  }
  replace(".norm.weight", "_bn_s");
  replace(".norm.bias", "_bn_b");
  replace(".weight", "_w");
  replace(".bias", "_b");
  return name;
}

TEST_F(Detectron1, AWholeModelImports) {
  const Family& family = select_family({.checkpoint = {.tensors = {tensor("blobs", "conv_rpn_fpn2_w")}}});
  EXPECT_EQ(family.name, "detectron2");
  ImportRequest request{.source = "model_final.pkl",
                        .config = "Detectron1-Comparisons/mask_rcnn_R_50_FPN_noaug_1x"};
  for (NamedTensor& t : zeros_for(error_of([&] { family.build(request); }))) {
    if (t.name.find("running_") != std::string::npos) continue;
    if (t.name.find("bbox_pred") != std::string::npos) t.shape[0] += 4;
    if (t.name.find("mask_head.predictor") != std::string::npos) t.shape[0] += 1;
    t.name = blob_of(t.name);
    t.section = "blobs";
    request.checkpoint.tensors.push_back(t);
  }
  const Model model = family.build(request);
  EXPECT_THAT(model.weights.unused, IsEmpty());
}

}  // namespace
}  // namespace osprey::detectron2
