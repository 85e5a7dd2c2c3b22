// The table of official configs (github.com/facebookresearch/maskrcnn-benchmark, folder configs, 2019-11):
// facts for inference only, so schedules, augmentation and losses are absent.
#include "arch/maskrcnn_benchmark/config.h"

namespace osprey::maskrcnn_benchmark {
namespace {

using Changes = ConfigChanges;

const Changes kTrained{{"DATASETS.TRAIN", "('coco_2014_train', 'coco_2014_valminusminival')"},
                       {"DATASETS.TEST", "('coco_2014_minival',)"}};
const Changes kConverted{{"DATASETS.TEST", "('coco_2014_minival',)"}};
const Changes kQuick{{"DATASETS.TRAIN", "('coco_2014_minival',)"},
                     {"DATASETS.TEST", "('coco_2014_minival',)"},
                     {"INPUT.MAX_SIZE_TEST", "1000"}};
const Changes kPyramid{{"MODEL.BACKBONE.CONV_BODY", "'R-50-FPN'"},
                       {"MODEL.RESNETS.BACKBONE_OUT_CHANNELS", "256"},
                       {"MODEL.RPN.USE_FPN", "True"},
                       {"MODEL.RPN.ANCHOR_STRIDE", "(4, 8, 16, 32, 64)"},
                       {"MODEL.RPN.PRE_NMS_TOP_N_TEST", "1000"},
                       {"DATALOADER.SIZE_DIVISIBILITY", "32"}};
const Changes kFpn =
    kPyramid + Changes{{"MODEL.RPN.POST_NMS_TOP_N_TEST", "1000"},
                       {"MODEL.RPN.FPN_POST_NMS_TOP_N_TEST", "1000"},
                       {"MODEL.ROI_HEADS.USE_FPN", "True"},
                       {"MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", "7"},
                       {"MODEL.ROI_BOX_HEAD.POOLER_SCALES", "(0.25, 0.125, 0.0625, 0.03125)"},
                       {"MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO", "2"},
                       {"MODEL.ROI_BOX_HEAD.FEATURE_EXTRACTOR", "'FPN2MLPFeatureExtractor'"},
                       {"MODEL.ROI_BOX_HEAD.PREDICTOR", "'FPNPredictor'"}};
const Changes kR101{{"MODEL.BACKBONE.CONV_BODY", "'R-101-FPN'"}};
const Changes kResNeXt{{"MODEL.RESNETS.STRIDE_IN_1X1", "False"},
                       {"MODEL.RESNETS.NUM_GROUPS", "32"},
                       {"MODEL.RESNETS.WIDTH_PER_GROUP", "8"}};
const Changes kX101 = kR101 + kResNeXt;
const Changes kX152 = Changes{{"MODEL.BACKBONE.CONV_BODY", "'R-152-FPN'"}} + kResNeXt;
const Changes kC4Mask{{"MODEL.MASK_ON", "True"}};
const Changes kMask{{"MODEL.MASK_ON", "True"},
                    {"MODEL.ROI_MASK_HEAD.POOLER_SCALES", "(0.25, 0.125, 0.0625, 0.03125)"},
                    {"MODEL.ROI_MASK_HEAD.FEATURE_EXTRACTOR", "'MaskRCNNFPNFeatureExtractor'"},
                    {"MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO", "2"},
                    {"MODEL.ROI_MASK_HEAD.SHARE_BOX_FEATURE_EXTRACTOR", "False"}};
const Changes kKeypoints{{"MODEL.KEYPOINT_ON", "True"},
                         {"MODEL.ROI_BOX_HEAD.NUM_CLASSES", "2"},
                         {"MODEL.ROI_KEYPOINT_HEAD.POOLER_SCALES", "(0.25, 0.125, 0.0625, 0.03125)"},
                         {"MODEL.ROI_KEYPOINT_HEAD.POOLER_SAMPLING_RATIO", "2"},
                         {"MODEL.ROI_KEYPOINT_HEAD.SHARE_BOX_FEATURE_EXTRACTOR", "False"}};
const Changes kPersons{
    {"DATASETS.TRAIN", "('keypoints_coco_2014_train', 'keypoints_coco_2014_valminusminival')"},
    {"DATASETS.TEST", "('keypoints_coco_2014_minival',)"}};
const Changes kQuickPersons{{"DATASETS.TRAIN", "('keypoints_coco_2014_minival',)"},
                            {"DATASETS.TEST", "('keypoints_coco_2014_minival',)"}};
const Changes kRpn{{"MODEL.RPN_ONLY", "True"}, {"MODEL.RPN.POST_NMS_TOP_N_TEST", "2000"}};
const Changes kRpnC4 = kRpn + Changes{{"MODEL.RPN.PRE_NMS_TOP_N_TEST", "12000"}};
const Changes kRpnFpn = kPyramid + kRpn;
const Changes kRetina{{"MODEL.RPN_ONLY", "True"},
                      {"MODEL.RETINANET_ON", "True"},
                      {"MODEL.BACKBONE.CONV_BODY", "'R-50-FPN-RETINANET'"}};
const Changes kRetina101{{"MODEL.BACKBONE.CONV_BODY", "'R-101-FPN-RETINANET'"}};
const Changes kOnP5{{"MODEL.RETINANET.USE_C5", "False"}};
const Changes kCityscapes{{"MODEL.ROI_BOX_HEAD.NUM_CLASSES", "9"},
                          {"DATASETS.TRAIN", "('cityscapes_fine_instanceonly_seg_train_cocostyle',)"},
                          {"DATASETS.TEST", "('cityscapes_fine_instanceonly_seg_val_cocostyle',)"}};
const Changes kVoc{{"MODEL.RPN.POST_NMS_TOP_N_TEST", "300"},
                   {"MODEL.RPN.ANCHOR_SIZES", "(128, 256, 512)"},
                   {"MODEL.ROI_BOX_HEAD.NUM_CLASSES", "21"},
                   {"DATASETS.TRAIN", "('voc_2007_train', 'voc_2007_val')"},
                   {"DATASETS.TEST", "('voc_2007_test',)"}};
const Changes kFbnet = kTrained + Changes{{"MODEL.BACKBONE.CONV_BODY", "'FBNet'"},
                                          {"MODEL.FBNET.ARCH", "'default'"},
                                          {"MODEL.FBNET.BN_TYPE", "'bn'"},
                                          {"MODEL.FBNET.WIDTH_DIVISOR", "8"},
                                          {"MODEL.RPN.ANCHOR_SIZES", "(16, 32, 64, 128, 256)"},
                                          {"MODEL.RPN.POST_NMS_TOP_N_TEST", "100"},
                                          {"MODEL.RPN.RPN_HEAD", "'FBNet.rpn_head'"},
                                          {"MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", "6"},
                                          {"MODEL.ROI_BOX_HEAD.FEATURE_EXTRACTOR", "'FBNet.roi_head'"},
                                          {"INPUT.MIN_SIZE_TEST", "320"},
                                          {"INPUT.MAX_SIZE_TEST", "640"},
                                          {"INPUT.PIXEL_MEAN", "[103.53, 116.28, 123.675]"},
                                          {"INPUT.PIXEL_STD", "[57.375, 57.12, 58.395]"}};
const Changes kFbnet600{{"MODEL.RPN.ANCHOR_SIZES", "(32, 64, 128, 256, 512)"},
                        {"MODEL.RPN.POST_NMS_TOP_N_TEST", "200"},
                        {"INPUT.MIN_SIZE_TEST", "600"},
                        {"INPUT.MAX_SIZE_TEST", "1000"}};
const Changes kFbnetMask{{"MODEL.MASK_ON", "True"},
                         {"MODEL.FBNET.DET_HEAD_LAST_SCALE", "0.0"},
                         {"MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", "6"},
                         {"MODEL.ROI_MASK_HEAD.FEATURE_EXTRACTOR", "'FBNet.roi_head_mask'"},
                         {"MODEL.ROI_MASK_HEAD.PREDICTOR", "'MaskRCNNConv1x1Predictor'"},
                         {"MODEL.ROI_MASK_HEAD.SHARE_BOX_FEATURE_EXTRACTOR", "False"}};
const Changes kXirb{{"MODEL.FBNET.ARCH", "'xirb16d_dsmask'"}};
const Changes kDeformable{{"MODEL.RESNETS.STAGE_WITH_DCN", "(False, True, True, True)"}};
const Changes kGroupNorm{{"MODEL.RESNETS.STRIDE_IN_1X1", "False"},
                         {"MODEL.RESNETS.TRANS_FUNC", "'BottleneckWithGN'"},
                         {"MODEL.RESNETS.STEM_FUNC", "'StemWithGN'"},
                         {"MODEL.FPN.USE_GN", "True"},
                         {"MODEL.ROI_BOX_HEAD.USE_GN", "True"}};
const Changes kConvHead{{"MODEL.ROI_BOX_HEAD.FEATURE_EXTRACTOR", "'FPNXconv1fcFeatureExtractor'"}};
const Changes kMaskGroupNorm{{"MODEL.ROI_MASK_HEAD.USE_GN", "True"}};

std::vector<OfficialConfig> table() {
  const Changes fpn = kFpn + kTrained, from_caffe2 = kFpn + kConverted, quick = kFpn + kQuick;
  const Changes retina = kFpn + kRetina + kTrained;
  return {
      {"e2e_faster_rcnn_R_50_C4_1x", "", "Faster R-CNN R50-C4 1x", kTrained},
      {"e2e_faster_rcnn_R_50_FPN_1x", "", "Faster R-CNN R50-FPN 1x", fpn},
      {"e2e_faster_rcnn_R_101_FPN_1x", "", "Faster R-CNN R101-FPN 1x", fpn + kR101},
      {"e2e_faster_rcnn_X_101_32x8d_FPN_1x", "", "Faster R-CNN X101-32x8d-FPN 1x", fpn + kX101},
      {"e2e_mask_rcnn_R_50_C4_1x", "", "Mask R-CNN R50-C4 1x", kTrained + kC4Mask},
      {"e2e_mask_rcnn_R_50_FPN_1x", "", "Mask R-CNN R50-FPN 1x", fpn + kMask},
      {"e2e_mask_rcnn_R_50_FPN_1x_periodically_testing", "", "Mask R-CNN R50-FPN 1x, tested as it trains",
       fpn + kMask},
      {"e2e_mask_rcnn_R_101_FPN_1x", "", "Mask R-CNN R101-FPN 1x", fpn + kMask + kR101},
      {"e2e_mask_rcnn_X_101_32x8d_FPN_1x", "", "Mask R-CNN X101-32x8d-FPN 1x", fpn + kMask + kX101},
      {"e2e_keypoint_rcnn_R_50_FPN_1x", "", "Keypoint R-CNN R50-FPN 1x", kFpn + kKeypoints + kPersons},
      {"rpn_R_50_C4_1x", "", "RPN R50-C4 1x", kRpnC4 + kTrained},
      {"rpn_R_50_FPN_1x", "", "RPN R50-FPN 1x", kRpnFpn + kTrained},
      {"rpn_R_101_FPN_1x", "", "RPN R101-FPN 1x", kRpnFpn + kTrained + kR101},
      {"rpn_X_101_32x8d_FPN_1x", "", "RPN X101-32x8d-FPN 1x", kRpnFpn + kTrained + kX101},
      {"e2e_faster_rcnn_fbnet", "", "Faster R-CNN FBNet", kFbnet},
      {"e2e_faster_rcnn_fbnet_600", "", "Faster R-CNN FBNet 600", kFbnet + kFbnet600},
      {"e2e_faster_rcnn_fbnet_chamv1a_600", "", "Faster R-CNN FBNet ChamNet-v1a 600",
       kFbnet + kFbnet600 + Changes{{"MODEL.FBNET.ARCH", "'cham_v1a'"}}},
      {"e2e_mask_rcnn_fbnet", "", "Mask R-CNN FBNet", kFbnet + kFbnetMask},
      {"e2e_mask_rcnn_fbnet_600", "", "Mask R-CNN FBNet 600", kFbnet + kFbnetMask + kFbnet600},
      {"e2e_mask_rcnn_fbnet_xirb16d_dsmask", "", "Mask R-CNN FBNet xirb16d, small masks",
       kFbnet + kFbnetMask + kXirb + Changes{{"MODEL.FBNET.DET_HEAD_LAST_SCALE", "-1.0"}}},
      {"e2e_mask_rcnn_fbnet_xirb16d_dsmask_600", "", "Mask R-CNN FBNet xirb16d, small masks, 600",
       kFbnet + kFbnetMask + kXirb + kFbnet600},

      {"caffe2/e2e_faster_rcnn_R_50_C4_1x_caffe2", "", "Faster R-CNN R50-C4 1x of Detectron", kConverted},
      {"caffe2/e2e_faster_rcnn_R_50_FPN_1x_caffe2", "", "Faster R-CNN R50-FPN 1x of Detectron", from_caffe2},
      {"caffe2/e2e_faster_rcnn_R_101_FPN_1x_caffe2", "", "Faster R-CNN R101-FPN 1x of Detectron",
       from_caffe2 + kR101},
      {"caffe2/e2e_faster_rcnn_X_101_32x8d_FPN_1x_caffe2", "", "Faster R-CNN X101-32x8d-FPN 1x of Detectron",
       from_caffe2 + kX101},
      {"caffe2/e2e_mask_rcnn_R_50_C4_1x_caffe2", "", "Mask R-CNN R50-C4 1x of Detectron",
       kConverted + kC4Mask},
      {"caffe2/e2e_mask_rcnn_R_50_FPN_1x_caffe2", "", "Mask R-CNN R50-FPN 1x of Detectron",
       from_caffe2 + kMask},
      {"caffe2/e2e_mask_rcnn_R_101_FPN_1x_caffe2", "", "Mask R-CNN R101-FPN 1x of Detectron",
       from_caffe2 + kMask + kR101},
      {"caffe2/e2e_mask_rcnn_X_101_32x8d_FPN_1x_caffe2", "", "Mask R-CNN X101-32x8d-FPN 1x of Detectron",
       from_caffe2 + kMask + kX101},
      {"caffe2/e2e_mask_rcnn_X-152-32x8d-FPN-IN5k_1.44x_caffe2", "",
       "Mask R-CNN X152-32x8d-FPN 1.44x of Detectron", from_caffe2 + kMask + kX152},
      {"caffe2/e2e_keypoint_rcnn_R_50_FPN_1x_caffe2", "", "Keypoint R-CNN R50-FPN 1x of Detectron",
       kFpn + kKeypoints + kPersons},

      {"retinanet/retinanet_R-50-FPN_1x", "", "RetinaNet R50-FPN 1x", retina},
      {"retinanet/retinanet_R-50-FPN_P5_1x", "", "RetinaNet R50-FPN 1x, P6 from P5", retina + kOnP5},
      {"retinanet/retinanet_R-50-FPN_1x_quick", "", "RetinaNet R50-FPN, quick", kFpn + kRetina + kQuick},
      {"retinanet/retinanet_R-101-FPN_1x", "", "RetinaNet R101-FPN 1x", retina + kRetina101},
      {"retinanet/retinanet_R-101-FPN_P5_1x", "", "RetinaNet R101-FPN 1x, P6 from P5",
       retina + kRetina101 + kOnP5},
      {"retinanet/retinanet_X_101_32x8d_FPN_1x", "", "RetinaNet X101-32x8d-FPN 1x",
       retina + kRetina101 + kResNeXt},

      {"cityscapes/e2e_faster_rcnn_R_50_FPN_1x_cocostyle", "", "Faster R-CNN R50-FPN, Cityscapes",
       kFpn + kCityscapes},
      {"cityscapes/e2e_mask_rcnn_R_50_FPN_1x_cocostyle", "", "Mask R-CNN R50-FPN, Cityscapes",
       kFpn + kMask + kCityscapes},
      {"cityscapes/e2e_mask_rcnn_R_50_FPN_1x_binarymask", "", "Mask R-CNN R50-FPN, Cityscapes binary masks",
       kFpn + kMask +
           Changes{{"MODEL.ROI_BOX_HEAD.NUM_CLASSES", "9"},
                   {"DATASETS.TRAIN", "('cityscapes_mask_instance_train',)"},
                   {"DATASETS.TEST", "('cityscapes_mask_instance_val',)"}}},
      {"cityscapes/e2e_mask_rcnn_R_50_FPN_1x_poly", "", "Mask R-CNN R50-FPN, Cityscapes polygons",
       kFpn + kMask +
           Changes{{"MODEL.ROI_BOX_HEAD.NUM_CLASSES", "11"},
                   {"INPUT.MIN_SIZE_TEST", "1024"},
                   {"INPUT.MAX_SIZE_TEST", "2048"},
                   {"DATASETS.TRAIN", "('cityscapes_poly_instance_train',)"},
                   {"DATASETS.TEST", "('cityscapes_poly_instance_val',)"}}},
      {"pascal_voc/e2e_faster_rcnn_R_50_C4_1x_1_gpu_voc", "", "Faster R-CNN R50-C4, Pascal VOC, 1 GPU", kVoc},
      {"pascal_voc/e2e_faster_rcnn_R_50_C4_1x_4_gpu_voc", "", "Faster R-CNN R50-C4, Pascal VOC, 4 GPUs",
       kVoc},
      {"pascal_voc/e2e_mask_rcnn_R_50_FPN_1x_cocostyle", "", "Mask R-CNN R50-FPN, Pascal VOC",
       kFpn + kMask +
           Changes{{"MODEL.ROI_BOX_HEAD.NUM_CLASSES", "21"},
                   {"DATASETS.TRAIN", "('voc_2012_train_cocostyle',)"},
                   {"DATASETS.TEST", "('voc_2012_val_cocostyle',)"}}},

      {"quick_schedules/e2e_faster_rcnn_R_50_C4_quick", "", "Faster R-CNN R50-C4, quick", kQuick},
      {"quick_schedules/e2e_faster_rcnn_R_50_FPN_quick", "", "Faster R-CNN R50-FPN, quick", quick},
      {"quick_schedules/e2e_faster_rcnn_X_101_32x8d_FPN_quick", "", "Faster R-CNN X101-32x8d-FPN, quick",
       quick + kX101},
      {"quick_schedules/e2e_keypoint_rcnn_R_50_FPN_quick", "", "Keypoint R-CNN R50-FPN, quick",
       quick + kKeypoints + kQuickPersons},
      {"quick_schedules/e2e_mask_rcnn_R_50_C4_quick", "", "Mask R-CNN R50-C4, quick", kQuick + kC4Mask},
      {"quick_schedules/e2e_mask_rcnn_R_50_FPN_quick", "", "Mask R-CNN R50-FPN, quick", quick + kMask},
      {"quick_schedules/e2e_mask_rcnn_X_101_32x8d_FPN_quick", "", "Mask R-CNN X101-32x8d-FPN, quick",
       quick + kMask + kX101},
      {"quick_schedules/rpn_R_50_C4_quick", "", "RPN R50-C4, quick", kRpnC4 + kQuick},
      {"quick_schedules/rpn_R_50_FPN_quick", "", "RPN R50-FPN, quick", kRpnFpn + kQuick},

      {"dcn/e2e_faster_rcnn_dconv_R_50_FPN_1x", "", "", fpn + kDeformable},
      {"dcn/e2e_faster_rcnn_mdconv_R_50_FPN_1x", "", "", fpn + kDeformable},
      {"dcn/e2e_mask_rcnn_dconv_R_50_FPN_1x", "", "", fpn + kMask + kDeformable},
      {"dcn/e2e_mask_rcnn_mdconv_R_50_FPN_1x", "", "", fpn + kMask + kDeformable},
      {"gn_baselines/e2e_faster_rcnn_R_50_FPN_1x_gn", "", "Faster R-CNN R50-FPN 1x, GN", fpn + kGroupNorm},
      {"gn_baselines/e2e_faster_rcnn_R_50_FPN_Xconv1fc_1x_gn", "", "Faster R-CNN R50-FPN 1x, GN, 4conv1fc",
       fpn + kGroupNorm + kConvHead},
      {"gn_baselines/e2e_mask_rcnn_R_50_FPN_1x_gn", "", "Mask R-CNN R50-FPN 1x, GN",
       fpn + kMask + kGroupNorm + kMaskGroupNorm},
      {"gn_baselines/e2e_mask_rcnn_R_50_FPN_Xconv1fc_1x_gn", "", "Mask R-CNN R50-FPN 1x, GN, 4conv1fc",
       fpn + kMask + kGroupNorm + kMaskGroupNorm + kConvHead},
      {"gn_baselines/scratch_e2e_faster_rcnn_R_50_FPN_3x_gn", "", "Faster R-CNN R50-FPN 3x from scratch, GN",
       fpn + kGroupNorm},
      {"gn_baselines/scratch_e2e_faster_rcnn_R_50_FPN_Xconv1fc_3x_gn", "",
       "Faster R-CNN R50-FPN 3x from scratch, GN, 4conv1fc", fpn + kGroupNorm + kConvHead},
      {"gn_baselines/scratch_e2e_mask_rcnn_R_50_FPN_3x_gn", "", "Mask R-CNN R50-FPN 3x from scratch, GN",
       fpn + kMask + kGroupNorm + kMaskGroupNorm},
      {"gn_baselines/scratch_e2e_mask_rcnn_R_50_FPN_Xconv1fc_3x_gn", "",
       "Mask R-CNN R50-FPN 3x from scratch, GN, 4conv1fc",
       fpn + kMask + kGroupNorm + kMaskGroupNorm + kConvHead},
      {"test_time_aug/e2e_mask_rcnn_R_50_FPN_1x", "", "",
       fpn + kMask + Changes{{"TEST.BBOX_AUG.ENABLED", "True"}}},
  };
}

}  // namespace

const OfficialConfigs& officials() {
  static const OfficialConfigs kTable(table());
  return kTable;
}

}  // namespace osprey::maskrcnn_benchmark
