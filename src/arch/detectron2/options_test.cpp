#include "arch/detectron2/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "arch/testing.h"

namespace osprey::detectron2 {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

Config mask_rcnn(std::vector<std::pair<std::string, std::string>> overrides = {}) {
  return load("mask_rcnn_R_50_FPN_3x", overrides);
}

TEST(Options, BackboneFollowsTheConfig) {
  const Backbone fpn = backbone_options(mask_rcnn());
  EXPECT_TRUE(fpn.pyramid);
  EXPECT_EQ(fpn.multiple, 32);
  EXPECT_EQ(fpn.last_stage, 5);
  const Backbone c4 = backbone_options(load("faster_rcnn_R_50_C4_1x", {}));
  EXPECT_FALSE(c4.pyramid);
  EXPECT_EQ(c4.multiple, 1);
  EXPECT_EQ(c4.last_stage, 4);
  EXPECT_EQ(backbone_options(load("faster_rcnn_R_50_DC5_1x", {})).trunk.res5_dilation, 2);
}

TEST(Options, BatchNormsGroupNormsAndOthersThatAreRefused) {
  for (const char* norm : {"BN", "SyncBN", "FrozenBN", "naiveSyncBN"})
    EXPECT_TRUE(backbone_options(mask_rcnn({{"MODEL.FPN.NORM", norm}})).fpn.batch_norm) << norm;
  EXPECT_THAT(error_of([] {
                mask_head_options(mask_rcnn({{"MODEL.ROI_MASK_HEAD.NORM", "LN"}}));
              }),
              HasSubstr("MODEL.ROI_MASK_HEAD.NORM: LN is not supported"));
  const Config gn = load("Misc/mask_rcnn_R_50_FPN_3x_gn", {});
  for (const GroupNormLayer& norm :
       {backbone_options(gn).trunk.group_norm, backbone_options(gn).fpn.group_norm,
        box_head_options(gn).group_norm, mask_head_options(gn).group_norm})
    EXPECT_EQ(norm.groups, 32);
  EXPECT_FALSE(box_head_options(gn).fc_group_norm.exists());
  EXPECT_THAT(error_of([] {
                retinanet_options(load("retinanet_R_50_FPN_1x", {{"MODEL.RETINANET.NORM", "BN"}}));
              }),
              HasSubstr("MODEL.RETINANET.NORM"));
}

TEST(Options, RefusalsNameTheKey) {
  const std::pair<const char*, const char*> changes[]{{"MODEL.BACKBONE.NAME", "build_swin"},
                                                      {"MODEL.RESNETS.RES5_DILATION", "2"},
                                                      {"MODEL.FPN.IN_FEATURES", "['res2', 'res4']"},
                                                      {"MODEL.FPN.IN_FEATURES", "['res2', 'res3']"},
                                                      {"MODEL.RESNETS.OUT_FEATURES", "['res4', 'linear']"},
                                                      {"MODEL.RESNETS.DEPTH", "18"}};
  for (const auto& change : changes)
    EXPECT_THAT(error_of([&] { backbone_options(mask_rcnn({change})); }), HasSubstr(change.first))
        << change.second;
  EXPECT_THAT(
      error_of([] {
        pooler_options(mask_rcnn({{"MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIPool"}}), "MODEL.ROI_BOX_HEAD");
      }),
      AllOf(HasSubstr("MODEL.ROI_BOX_HEAD.POOLER_TYPE"), HasSubstr("ROIPool")));
  EXPECT_THAT(error_of([] {
                box_head_options(mask_rcnn({{"MODEL.ROI_BOX_HEAD.NAME", "MyHead"}}));
              }),
              HasSubstr("MODEL.ROI_BOX_HEAD.NAME: MyHead"));
  EXPECT_THAT(error_of([] {
                detection_rule(mask_rcnn({{"MODEL.ROI_HEADS.NMS_THRESH_TEST", "1.5"}}));
              }),
              HasSubstr("from 0 to 1"));
  EXPECT_THAT(error_of([] {
                stage_delta_weights(mask_rcnn({{"MODEL.ROI_HEADS.NAME", "CascadeROIHeads"}}));
              }),
              HasSubstr("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG"));
}

TEST(Options, AbsurdNumbersAreRefused) {
  const std::pair<const char*, const char*> changes[]{{"MODEL.RESNETS.RES2_OUT_CHANNELS", "2000000000"},
                                                      {"MODEL.RESNETS.WIDTH_PER_GROUP", "-1"},
                                                      {"MODEL.RESNETS.DEPTH", "51"}};
  for (const auto& change : changes)
    EXPECT_THAT(error_of([&] { backbone_options(mask_rcnn({change})); }), HasSubstr(change.first))
        << change.second;
  EXPECT_THAT(error_of([] {
                backbone_options(mask_rcnn(
                    {{"MODEL.RESNETS.NUM_GROUPS", "60000"}, {"MODEL.RESNETS.WIDTH_PER_GROUP", "60000"}}));
              }),
              HasSubstr("wider than"));
  EXPECT_THAT(error_of([] {
                box_head_options(mask_rcnn({{"MODEL.ROI_BOX_HEAD.NUM_CONV", "100000"}}));
              }),
              HasSubstr("MODEL.ROI_BOX_HEAD.NUM_CONV"));
}

TEST(Options, InputIsInTheNetworksChannelOrder) {
  const PhotoInput bgr = input_options(mask_rcnn(), 32, 0, 0);
  EXPECT_TRUE(bgr.bgr);
  EXPECT_THAT(bgr.mean, ElementsAre(103.53f, 116.28f, 123.675f));
  EXPECT_FALSE(input_options(mask_rcnn({{"INPUT.FORMAT", "RGB"}}), 32, 0, 0).bgr);
  EXPECT_THAT(error_of([] {
                input_options(mask_rcnn({{"INPUT.FORMAT", "L"}}), 32, 0, 0);
              }),
              HasSubstr("INPUT.FORMAT"));
  EXPECT_THAT(error_of([] {
                input_options(mask_rcnn({{"INPUT.MIN_SIZE_TEST", "0"}}), 32, 0, 0);
              }),
              HasSubstr("INPUT.MIN_SIZE_TEST"));
  EXPECT_EQ(input_options(mask_rcnn({{"INPUT.MAX_SIZE_TEST", "640"}}), 32, 0, 0).shortest, 640);
}

TEST(Options, AnchorListsAreSpreadOverTheLevels) {
  const auto sizes = [](const char* text) {
    return rpn_options(mask_rcnn({{"MODEL.ANCHOR_GENERATOR.SIZES", text}})).anchors.sizes;
  };
  EXPECT_THAT(sizes("[[32], [64], [128], [256], [512]]").at(4), ElementsAre(512));
  EXPECT_THAT(sizes("[[32, 64]]"), AllOf(SizeIs(5), testing::Each(ElementsAre(32, 64))));
  EXPECT_THAT(sizes("[32, 64]"), AllOf(SizeIs(5), testing::Each(ElementsAre(32, 64))));
  EXPECT_THAT(error_of([&] { sizes("[[32], [64]]"); }), HasSubstr("one for each of 5 levels"));
}

TEST(Options, CascadeHasWeightsForEachStage) {
  const auto weights = stage_delta_weights(load("cascade_mask_rcnn_R_50_FPN_1x", {}));
  ASSERT_THAT(weights, SizeIs(3));
  EXPECT_THAT(weights[2], ElementsAre(30, 30, 15, 15));
}

}  // namespace
}  // namespace osprey::detectron2
