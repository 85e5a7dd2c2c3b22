// The table of official configs (github.com/facebookresearch/detectron2, folder configs, main of 2025): facts
// for inference only, so schedules, augmentation and losses are absent and 1x and 3x differ in name alone.
#include "arch/detectron2/zoo.h"

namespace osprey::detectron2 {
namespace {

using Changes = ConfigChanges;

const Changes kCoco{{"DATASETS.TRAIN", "['coco_2017_train']"}, {"DATASETS.TEST", "['coco_2017_val']"}};
const Changes kMask{{"MODEL.MASK_ON", "True"}};
const Changes kR101{{"MODEL.RESNETS.DEPTH", "101"}};
const Changes kX101{{"MODEL.RESNETS.DEPTH", "101"},
                    {"MODEL.RESNETS.NUM_GROUPS", "32"},
                    {"MODEL.RESNETS.WIDTH_PER_GROUP", "8"},
                    {"MODEL.RESNETS.STRIDE_IN_1X1", "False"},
                    {"MODEL.PIXEL_STD", "[57.375, 57.12, 58.395]"}};
const Changes kProposals{{"MODEL.META_ARCHITECTURE", "'ProposalNetwork'"}};
const Changes kDeformable{{"MODEL.RESNETS.DEFORM_ON_PER_STAGE", "[False, True, True, True]"}};
const Changes kCascade{{"MODEL.ROI_HEADS.NAME", "'CascadeROIHeads'"},
                       {"MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "True"}};
const Changes kTwoMlp{{"MODEL.ROI_HEADS.NAME", "'StandardROIHeads'"},
                      {"MODEL.ROI_BOX_HEAD.NAME", "'FastRCNNConvFCHead'"},
                      {"MODEL.ROI_BOX_HEAD.NUM_FC", "2"},
                      {"MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", "7"},
                      {"MODEL.ROI_MASK_HEAD.NUM_CONV", "4"}};
const Changes kFourConvs{{"MODEL.ROI_BOX_HEAD.NUM_CONV", "4"}, {"MODEL.ROI_BOX_HEAD.NUM_FC", "1"}};
const Changes kLvis{{"MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0001"}, {"TEST.DETECTIONS_PER_IMAGE", "300"}};
const Changes kLvis05 = kMask + kLvis +
                        Changes{{"MODEL.ROI_HEADS.NUM_CLASSES", "1230"},
                                {"DATASETS.TRAIN", "['lvis_v0.5_train']"},
                                {"DATASETS.TEST", "['lvis_v0.5_val']"}};
const Changes kLvis1 = kMask + kLvis +
                       Changes{{"MODEL.ROI_HEADS.NUM_CLASSES", "1203"},
                               {"DATASETS.TRAIN", "['lvis_v1_train']"},
                               {"DATASETS.TEST", "['lvis_v1_val']"}};
const Changes kVoc{{"MODEL.ROI_HEADS.NUM_CLASSES", "20"},
                   {"DATASETS.TRAIN", "['voc_2007_trainval', 'voc_2012_trainval']"},
                   {"DATASETS.TEST", "['voc_2007_test']"}};
const Changes kKeypoints{{"MODEL.KEYPOINT_ON", "True"},
                         {"MODEL.ROI_HEADS.NUM_CLASSES", "1"},
                         {"DATASETS.TRAIN", "['keypoints_coco_2017_train']"},
                         {"DATASETS.TEST", "['keypoints_coco_2017_val']"}};

Changes norms(std::string_view norm, std::string_view stride_in_1x1) {
  return kMask + kFourConvs +
         Changes{{"MODEL.RESNETS.NORM", norm},
                 {"MODEL.RESNETS.STRIDE_IN_1X1", stride_in_1x1},
                 {"MODEL.FPN.NORM", norm},
                 {"MODEL.ROI_BOX_HEAD.NORM", norm},
                 {"MODEL.ROI_MASK_HEAD.NORM", norm}};
}

// As Detectron1 pooled: two samples a side, boxes not shifted by half a pixel.
Changes old_pooler(std::initializer_list<std::string_view> heads) {
  static constexpr std::pair<std::string_view, std::string_view> kAll[]{
      {"MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO", "2"},
      {"MODEL.ROI_BOX_HEAD.POOLER_TYPE", "'ROIAlign'"},
      {"MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO", "2"},
      {"MODEL.ROI_MASK_HEAD.POOLER_TYPE", "'ROIAlign'"},
      {"MODEL.ROI_KEYPOINT_HEAD.POOLER_SAMPLING_RATIO", "2"},
      {"MODEL.ROI_KEYPOINT_HEAD.POOLER_TYPE", "'ROIAlign'"}};
  Changes out;
  for (const auto& change : kAll)
    for (const std::string_view head : heads)
      if (change.first.substr(6).starts_with(head)) out.push_back(change);
  return out;
}

std::vector<OfficialConfig> table() {
  constexpr std::string_view kFpn = "Base-RCNN-FPN", kC4 = "Base-RCNN-C4", kDc5 = "Base-RCNN-DilatedC5";
  constexpr std::string_view kRetina = "Base-RetinaNet", kPerson = "COCO-Keypoints/Base-Keypoint-RCNN-FPN";
  return {
      {"Base-RCNN-FPN", "", "",
       kCoco + kTwoMlp +
           Changes{{"MODEL.BACKBONE.NAME", "'build_resnet_fpn_backbone'"},
                   {"MODEL.RESNETS.OUT_FEATURES", "['res2', 'res3', 'res4', 'res5']"},
                   {"MODEL.FPN.IN_FEATURES", "['res2', 'res3', 'res4', 'res5']"},
                   {"MODEL.ANCHOR_GENERATOR.SIZES", "[[32], [64], [128], [256], [512]]"},
                   {"MODEL.RPN.IN_FEATURES", "['p2', 'p3', 'p4', 'p5', 'p6']"},
                   {"MODEL.RPN.PRE_NMS_TOPK_TEST", "1000"},
                   {"MODEL.ROI_HEADS.IN_FEATURES", "['p2', 'p3', 'p4', 'p5']"}}},
      {"Base-RCNN-C4", "", "", kCoco},
      {"Base-RCNN-DilatedC5", "", "",
       kCoco + kTwoMlp +
           Changes{{"MODEL.RESNETS.OUT_FEATURES", "['res5']"},
                   {"MODEL.RESNETS.RES5_DILATION", "2"},
                   {"MODEL.RPN.IN_FEATURES", "['res5']"},
                   {"MODEL.ROI_HEADS.IN_FEATURES", "['res5']"}}},
      {"Base-RetinaNet", "", "",
       kCoco + Changes{{"MODEL.META_ARCHITECTURE", "'RetinaNet'"},
                       {"MODEL.BACKBONE.NAME", "'build_retinanet_resnet_fpn_backbone'"},
                       {"MODEL.RESNETS.OUT_FEATURES", "['res3', 'res4', 'res5']"},
                       {"MODEL.FPN.IN_FEATURES", "['res3', 'res4', 'res5']"},
                       // x, x * 2^(1/3), x * 2^(2/3)
                       {"MODEL.ANCHOR_GENERATOR.SIZES",
                        "[[32.0, 40.31747359663594, 50.79683366298238],"
                        " [64.0, 80.63494719327188, 101.59366732596476],"
                        " [128.0, 161.26989438654377, 203.18733465192952],"
                        " [256.0, 322.53978877308754, 406.37466930385904],"
                        " [512.0, 645.0795775461751, 812.7493386077181]]"}}},

      {"COCO-Detection/faster_rcnn_R_50_C4_1x", kC4, "Faster R-CNN R50-C4 1x", {}},
      {"COCO-Detection/faster_rcnn_R_50_DC5_1x", kDc5, "Faster R-CNN R50-DC5 1x", {}},
      {"COCO-Detection/faster_rcnn_R_50_FPN_1x", kFpn, "Faster R-CNN R50-FPN 1x", {}},
      {"COCO-Detection/faster_rcnn_R_50_C4_3x", kC4, "Faster R-CNN R50-C4 3x", {}},
      {"COCO-Detection/faster_rcnn_R_50_DC5_3x", kDc5, "Faster R-CNN R50-DC5 3x", {}},
      {"COCO-Detection/faster_rcnn_R_50_FPN_3x", kFpn, "Faster R-CNN R50-FPN 3x", {}},
      {"COCO-Detection/faster_rcnn_R_101_C4_3x", kC4, "Faster R-CNN R101-C4 3x", kR101},
      {"COCO-Detection/faster_rcnn_R_101_DC5_3x", kDc5, "Faster R-CNN R101-DC5 3x", kR101},
      {"COCO-Detection/faster_rcnn_R_101_FPN_3x", kFpn, "Faster R-CNN R101-FPN 3x", kR101},
      {"COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x", kFpn, "Faster R-CNN X101-32x8d-FPN 3x", kX101},
      {"COCO-Detection/retinanet_R_50_FPN_1x", kRetina, "RetinaNet R50-FPN 1x", {}},
      {"COCO-Detection/retinanet_R_50_FPN_3x", kRetina, "RetinaNet R50-FPN 3x", {}},
      {"COCO-Detection/retinanet_R_101_FPN_3x", kRetina, "RetinaNet R101-FPN 3x", kR101},
      {"COCO-Detection/rpn_R_50_C4_1x", kC4, "RPN R50-C4 1x",
       kProposals +
           Changes{{"MODEL.RPN.PRE_NMS_TOPK_TEST", "12000"}, {"MODEL.RPN.POST_NMS_TOPK_TEST", "2000"}}},
      {"COCO-Detection/rpn_R_50_FPN_1x", kFpn, "RPN R50-FPN 1x",
       kProposals + Changes{{"MODEL.RPN.POST_NMS_TOPK_TEST", "2000"}}},
      {"COCO-Detection/fast_rcnn_R_50_FPN_1x",
       kFpn,
       "Fast R-CNN R50-FPN 1x",
       {{"MODEL.LOAD_PROPOSALS", "True"}, {"MODEL.PROPOSAL_GENERATOR.NAME", "'PrecomputedProposals'"}}},

      {"COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x", kC4, "Mask R-CNN R50-C4 1x", kMask},
      {"COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_1x", kDc5, "Mask R-CNN R50-DC5 1x", kMask},
      {"COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x", kFpn, "Mask R-CNN R50-FPN 1x", kMask},
      {"COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x_giou", kFpn, "Mask R-CNN R50-FPN 1x, GIoU", kMask},
      {"COCO-InstanceSegmentation/mask_rcnn_R_50_C4_3x", kC4, "Mask R-CNN R50-C4 3x", kMask},
      {"COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_3x", kDc5, "Mask R-CNN R50-DC5 3x", kMask},
      {"COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x", kFpn, "Mask R-CNN R50-FPN 3x", kMask},
      {"COCO-InstanceSegmentation/mask_rcnn_R_101_C4_3x", kC4, "Mask R-CNN R101-C4 3x", kMask + kR101},
      {"COCO-InstanceSegmentation/mask_rcnn_R_101_DC5_3x", kDc5, "Mask R-CNN R101-DC5 3x", kMask + kR101},
      {"COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x", kFpn, "Mask R-CNN R101-FPN 3x", kMask + kR101},
      {"COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x", kFpn, "Mask R-CNN X101-32x8d-FPN 3x",
       kMask + kX101},

      {"COCO-Keypoints/Base-Keypoint-RCNN-FPN", kFpn, "", kKeypoints},
      {"COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x", kPerson, "Keypoint R-CNN R50-FPN 1x", {}},
      {"COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x", kPerson, "Keypoint R-CNN R50-FPN 3x", {}},
      {"COCO-Keypoints/keypoint_rcnn_R_101_FPN_3x", kPerson, "Keypoint R-CNN R101-FPN 3x", kR101},
      {"COCO-Keypoints/keypoint_rcnn_X_101_32x8d_FPN_3x", kPerson, "Keypoint R-CNN X101-32x8d-FPN 3x", kX101},

      {"COCO-PanopticSegmentation/Base-Panoptic-FPN", kFpn, "",
       kMask + Changes{{"MODEL.META_ARCHITECTURE", "'PanopticFPN'"}}},
      {"COCO-PanopticSegmentation/panoptic_fpn_R_50_1x",
       "COCO-PanopticSegmentation/Base-Panoptic-FPN",
       "",
       {}},
      {"COCO-PanopticSegmentation/panoptic_fpn_R_50_3x",
       "COCO-PanopticSegmentation/Base-Panoptic-FPN",
       "",
       {}},
      {"COCO-PanopticSegmentation/panoptic_fpn_R_101_3x", "COCO-PanopticSegmentation/Base-Panoptic-FPN", "",
       kR101},

      {"Misc/cascade_mask_rcnn_R_50_FPN_1x", kFpn, "Cascade Mask R-CNN R50-FPN 1x", kMask + kCascade},
      {"Misc/cascade_mask_rcnn_R_50_FPN_3x", kFpn, "Cascade Mask R-CNN R50-FPN 3x", kMask + kCascade},
      {"Misc/cascade_mask_rcnn_X_152_32x8d_FPN_IN5k_gn_dconv", kFpn, "",
       kMask + kCascade + kX101 + kDeformable + kFourConvs +
           Changes{{"MODEL.RESNETS.DEPTH", "152"},
                   {"MODEL.PIXEL_STD", "[1.0, 1.0, 1.0]"},
                   {"MODEL.ROI_BOX_HEAD.NORM", "'GN'"},
                   {"MODEL.ROI_MASK_HEAD.NUM_CONV", "8"},
                   {"MODEL.ROI_MASK_HEAD.NORM", "'GN'"}}},
      {"Misc/mask_rcnn_R_50_FPN_1x_cls_agnostic", kFpn, "Mask R-CNN R50-FPN 1x, class-agnostic",
       kMask + Changes{{"MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "True"},
                       {"MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", "True"}}},
      {"Misc/mask_rcnn_R_50_FPN_1x_dconv_c3-c5", kFpn, "", kMask + kDeformable},
      {"Misc/mask_rcnn_R_50_FPN_3x_dconv_c3-c5", kFpn, "", kMask + kDeformable},
      {"Misc/mask_rcnn_R_50_FPN_3x_gn", kFpn, "Mask R-CNN R50-FPN 3x, GN", norms("'GN'", "False")},
      {"Misc/mask_rcnn_R_50_FPN_3x_syncbn", kFpn, "Mask R-CNN R50-FPN 3x, SyncBN", norms("'SyncBN'", "True")},
      {"Misc/scratch_mask_rcnn_R_50_FPN_3x_gn",
       "Misc/mask_rcnn_R_50_FPN_3x_gn",
       "Mask R-CNN R50-FPN 3x from scratch, GN",
       {}},
      {"Misc/scratch_mask_rcnn_R_50_FPN_9x_gn",
       "Misc/mask_rcnn_R_50_FPN_3x_gn",
       "Mask R-CNN R50-FPN 9x from scratch, GN",
       {{"MODEL.PIXEL_STD", "[57.375, 57.12, 58.395]"}}},
      {"Misc/scratch_mask_rcnn_R_50_FPN_9x_syncbn",
       "Misc/mask_rcnn_R_50_FPN_3x_syncbn",
       "Mask R-CNN R50-FPN 9x from scratch, SyncBN",
       {{"MODEL.PIXEL_STD", "[57.375, 57.12, 58.395]"}, {"MODEL.RESNETS.STRIDE_IN_1X1", "False"}}},
      {"Misc/semantic_R_50_FPN_1x", kFpn, "", {{"MODEL.META_ARCHITECTURE", "'SemanticSegmentor'"}}},

      {"Cityscapes/mask_rcnn_R_50_FPN", kFpn, "Mask R-CNN R50-FPN, Cityscapes",
       kMask + Changes{{"MODEL.ROI_HEADS.NUM_CLASSES", "8"},
                       {"INPUT.MIN_SIZE_TEST", "1024"},
                       {"INPUT.MAX_SIZE_TEST", "2048"},
                       {"DATASETS.TRAIN", "['cityscapes_fine_instance_seg_train']"},
                       {"DATASETS.TEST", "['cityscapes_fine_instance_seg_val']"}}},
      {"PascalVOC-Detection/faster_rcnn_R_50_C4", kC4, "Faster R-CNN R50-C4, Pascal VOC", kVoc},
      {"PascalVOC-Detection/faster_rcnn_R_50_FPN", kFpn, "Faster R-CNN R50-FPN, Pascal VOC", kVoc},
      {"LVISv0.5-InstanceSegmentation/mask_rcnn_R_50_FPN_1x", kFpn, "Mask R-CNN R50-FPN 1x, LVIS v0.5",
       kLvis05},
      {"LVISv0.5-InstanceSegmentation/mask_rcnn_R_101_FPN_1x", kFpn, "Mask R-CNN R101-FPN 1x, LVIS v0.5",
       kLvis05 + kR101},
      {"LVISv0.5-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_1x", kFpn,
       "Mask R-CNN X101-32x8d-FPN 1x, LVIS v0.5", kLvis05 + kX101},
      {"LVISv1-InstanceSegmentation/mask_rcnn_R_50_FPN_1x", kFpn, "Mask R-CNN R50-FPN 1x, LVIS v1", kLvis1},
      {"LVISv1-InstanceSegmentation/mask_rcnn_R_101_FPN_1x", kFpn, "Mask R-CNN R101-FPN 1x, LVIS v1",
       kLvis1 + kR101},
      {"LVISv1-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_1x", kFpn,
       "Mask R-CNN X101-32x8d-FPN 1x, LVIS v1", kLvis1 + kX101},
      {"Detectron1-Comparisons/faster_rcnn_R_50_FPN_noaug_1x", kFpn,
       "Faster R-CNN R50-FPN 1x as Detectron1's", old_pooler({"ROI_BOX_HEAD"})},
      {"Detectron1-Comparisons/keypoint_rcnn_R_50_FPN_1x", kFpn, "Keypoint R-CNN R50-FPN 1x as Detectron1's",
       kKeypoints + old_pooler({"ROI_BOX_HEAD", "ROI_KEYPOINT_HEAD"})},
      {"Detectron1-Comparisons/mask_rcnn_R_50_FPN_noaug_1x", kFpn, "Mask R-CNN R50-FPN 1x as Detectron1's",
       kMask + old_pooler({"ROI_BOX_HEAD", "ROI_MASK_HEAD"})},
  };
}

}  // namespace

const OfficialConfigs& officials() {
  static const OfficialConfigs kTable(table());
  return kTable;
}

}  // namespace osprey::detectron2
