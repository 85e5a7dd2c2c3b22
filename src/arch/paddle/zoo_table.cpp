// The table of official configs (github.com/PaddlePaddle/PaddleDetection, folders configs/rtdetr and
// configs/mask_rtdetr, 2024-10) and of the bases that they name: facts for inference only, so schedules,
// augmentation and losses are absent.
#include "arch/paddle/zoo.h"

namespace osprey::paddle {
namespace {

using Changes = ConfigChanges;

const Changes kClasses{{"num_classes", "80"}};
const Changes kReader{
    {"TestReader",
     "{'sample_transforms': [{'Decode': {}}, "
     "{'Resize': {'target_size': [640, 640], 'keep_ratio': False, 'interp': 2}}, "
     "{'NormalizeImage': {'mean': [0., 0., 0.], 'std': [1., 1., 1.], 'norm_type': 'none'}}, "
     "{'Permute': {}}]}"}};
constexpr std::string_view kEncoderLayer =
    "{'name': 'TransformerLayer', 'd_model': 256, 'nhead': 8, 'dim_feedforward': 1024, 'activation': 'gelu'}";
constexpr std::string_view kEncoderLayer384 =
    "{'name': 'TransformerLayer', 'd_model': 384, 'nhead': 8, 'dim_feedforward': 2048, 'activation': 'gelu'}";
constexpr std::string_view kEncoderLayer512 =
    "{'name': 'TransformerLayer', 'd_model': 512, 'nhead': 8, 'dim_feedforward': 2048, 'activation': 'gelu'}";

const Changes kBoxes{{"architecture", "'DETR'"},
                     {"hidden_dim", "256"},
                     {"DETR.backbone", "'ResNet'"},
                     {"DETR.neck", "'HybridEncoder'"},
                     {"DETR.transformer", "'RTDETRTransformer'"},
                     {"ResNet.depth", "50"},
                     {"ResNet.variant", "'d'"},
                     {"ResNet.return_idx", "[1, 2, 3]"},
                     {"HybridEncoder.hidden_dim", "256"},
                     {"HybridEncoder.use_encoder_idx", "[2]"},
                     {"HybridEncoder.num_encoder_layers", "1"},
                     {"HybridEncoder.encoder_layer", kEncoderLayer},
                     {"HybridEncoder.expansion", "1.0"},
                     {"RTDETRTransformer.num_queries", "300"},
                     {"RTDETRTransformer.num_decoder_layers", "6"},
                     {"DETRPostProcess.num_top_queries", "300"}};
const Changes kHalf{{"HybridEncoder.expansion", "0.5"}, {"HybridEncoder.depth_mult", "1.0"}};
const Changes kNeck384{{"HybridEncoder.hidden_dim", "384"},
                       {"HybridEncoder.encoder_layer", kEncoderLayer384}};
const Changes kNeck512{{"HybridEncoder.hidden_dim", "512"},
                       {"HybridEncoder.num_encoder_layers", "2"},
                       {"HybridEncoder.encoder_layer", kEncoderLayer512}};

const Changes kMasks{{"architecture", "'DETR'"},
                     {"with_mask", "True"},
                     {"hidden_dim", "256"},
                     {"num_prototypes", "32"},
                     {"DETR.backbone", "'ResNet'"},
                     {"DETR.neck", "'MaskHybridEncoder'"},
                     {"DETR.transformer", "'MaskRTDETR'"},
                     {"ResNet.depth", "50"},
                     {"ResNet.variant", "'d'"},
                     {"ResNet.return_idx", "[0, 1, 2, 3]"},
                     {"MaskHybridEncoder.hidden_dim", "256"},
                     {"MaskHybridEncoder.use_encoder_idx", "[3]"},
                     {"MaskHybridEncoder.num_encoder_layers", "1"},
                     {"MaskHybridEncoder.encoder_layer", kEncoderLayer},
                     {"MaskHybridEncoder.expansion", "1.0"},
                     {"MaskHybridEncoder.mask_feat_channels", "[64, 64]"},
                     {"MaskRTDETR.num_queries", "300"},
                     {"MaskRTDETR.num_decoder_layers", "6"},
                     {"MaskRTDETR.mask_enhanced", "True"},
                     {"DETRPostProcess.num_top_queries", "100"}};
const Changes kManyPrototypes{{"num_prototypes", "128"}};
// Of S and M: the transformer encoder runs on stride 16.
const Changes kMaskNeckSmall = kManyPrototypes + Changes{{"MaskHybridEncoder.use_encoder_idx", "[2]"},
                                                         {"MaskHybridEncoder.expansion", "0.5"}};
const Changes kMaskNeck384 =
    kManyPrototypes + Changes{{"MaskHybridEncoder.hidden_dim", "384"},
                              {"MaskHybridEncoder.encoder_layer", kEncoderLayer384},
                              {"MaskHybridEncoder.mask_feat_channels", "[128, 128]"}};
const Changes kMaskNeck512 =
    kManyPrototypes + Changes{{"MaskHybridEncoder.hidden_dim", "512"},
                              {"MaskHybridEncoder.num_encoder_layers", "2"},
                              {"MaskHybridEncoder.encoder_layer", kEncoderLayer512},
                              {"MaskHybridEncoder.mask_feat_channels", "[256, 128]"}};

Changes hgnet(std::string_view arch, std::string_view stages) {
  return {{"DETR.backbone", "'PPHGNetV2'"}, {"PPHGNetV2.arch", arch}, {"PPHGNetV2.return_idx", stages}};
}

std::vector<OfficialConfig> table() {
  const Changes boxes = kClasses + kBoxes + kReader, masks = kClasses + kMasks + kReader;
  const auto small = [&](std::string_view depth, std::string_view layers) {
    return boxes + kHalf + Changes{{"ResNet.depth", depth}, {"RTDETRTransformer.num_decoder_layers", layers}};
  };
  const auto box_hgnet = [&](std::string_view arch) { return boxes + hgnet(arch, "[1, 2, 3]"); };
  const auto mask_hgnet = [&](std::string_view arch) { return masks + hgnet(arch, "[0, 1, 2, 3]"); };
  return {
      {"rtdetr/rtdetr_r18vd_6x_coco", "", "RT-DETR R18vd", small("18", "3")},
      {"rtdetr/rtdetr_r34vd_6x_coco", "", "RT-DETR R34vd", small("34", "4")},
      {"rtdetr/rtdetr_r50vd_m_6x_coco", "", "RT-DETR R50vd-m",
       boxes + kHalf + Changes{{"RTDETRTransformer.eval_idx", "2"}}},
      {"rtdetr/rtdetr_r50vd_6x_coco", "", "RT-DETR R50vd", boxes},
      {"rtdetr/rtdetr_r101vd_6x_coco", "", "RT-DETR R101vd",
       boxes + kNeck384 + Changes{{"ResNet.depth", "101"}}},
      {"rtdetr/rtdetr_hgnetv2_l_6x_coco", "", "RT-DETR HGNetv2-L", box_hgnet("'L'")},
      {"rtdetr/rtdetr_hgnetv2_x_6x_coco", "", "RT-DETR HGNetv2-X", box_hgnet("'X'") + kNeck384},
      {"rtdetr/rtdetr_hgnetv2_h_6x_coco", "", "RT-DETR HGNetv2-H", box_hgnet("'H'") + kNeck512},
      {"rtdetr/rtdetr_swin_L_384_3x_coco", "", "", boxes + Changes{{"DETR.backbone", "'SwinTransformer'"}}},
      {"rtdetr/rtdetr_focalnet_L_384_3x_coco", "", "", boxes + Changes{{"DETR.backbone", "'FocalNet'"}}},

      {"mask_rtdetr/mask_rtdetr_hgnetv2_s_6x_coco", "", "Mask RT-DETR HGNetv2-S",
       mask_hgnet("'S'") + kMaskNeckSmall + Changes{{"MaskHybridEncoder.mask_feat_channels", "[64, 32]"}}},
      {"mask_rtdetr/mask_rtdetr_hgnetv2_m_6x_coco", "", "Mask RT-DETR HGNetv2-M",
       mask_hgnet("'M'") + kMaskNeckSmall},
      {"mask_rtdetr/mask_rtdetr_hgnetv2_l_6x_coco", "", "Mask RT-DETR HGNetv2-L", mask_hgnet("'L'")},
      {"mask_rtdetr/mask_rtdetr_hgnetv2_x_6x_coco", "", "Mask RT-DETR HGNetv2-X",
       mask_hgnet("'X'") + kMaskNeck384},
      {"mask_rtdetr/mask_rtdetr_hgnetv2_h_6x_coco", "", "Mask RT-DETR HGNetv2-H",
       mask_hgnet("'H'") + kMaskNeck512},

      {"_base_/rtdetr_r50vd", "", "", kBoxes},
      {"_base_/rtdetr_reader", "", "", kReader},
      {"_base_/mask_rtdetr_r50vd", "", "", kMasks},
      {"_base_/mask_rtdetr_reader", "", "", kReader},
      {"_base_/optimizer_6x", "", "", {}},
      {"datasets/coco_detection", "", "", kClasses},
      {"datasets/coco_instance", "", "", kClasses},
      {"configs/runtime", "", "", {}},
  };
}

}  // namespace

const OfficialConfigs& officials() {
  static const OfficialConfigs kTable(table());
  return kTable;
}

}  // namespace osprey::paddle
