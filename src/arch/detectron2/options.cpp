#include "arch/detectron2/options.h"

#include <algorithm>
#include <array>

#include "core/error.h"

namespace osprey::detectron2 {
namespace {

// More than any detector has; configs are files from outside.
constexpr int kMaxLayers = 64, kMaxBoxes = 1 << 20, kMaxBins = 256, kMaxWidth = 1 << 16;
constexpr std::size_t kMaxAnchors = 100;  // sizes, or ratios, of a level

// Whether a NORM is a batch norm: at inference all of its kinds are the same.
bool batch_norm_option(const Config& config, const std::string& key) {
  constexpr std::array<std::string_view, 6> kBatchNorms{"FrozenBN",      "BN",      "SyncBN", "naiveSyncBN",
                                                        "naiveSyncBN_N", "nnSyncBN"};
  const std::string norm = config.text(key);
  if (norm.empty()) return false;
  if (norm == "GN") return false;
  if (std::find(kBatchNorms.begin(), kBatchNorms.end(), norm) == kBatchNorms.end())
    config.refuse(key, "only batch norms (FrozenBN, BN, SyncBN) and GN are");
  return true;
}

GroupNormLayer group_norm_option(const Config& config, const std::string& key) {
  return {.groups = config.text(key) == "GN" ? 32 : 0};
}

void expect_text(const Config& config, std::string_view key, std::string_view expected) {
  if (config.text(key) != expected) config.refuse(key, fmt::format("only {} is", expected));
}

float threshold(const Config& config, std::string_view key) {
  const float value = config.number(key);
  if (!(value >= 0 && value <= 1)) config.node(key).refuse("a number from 0 to 1");
  return value;
}

std::vector<float> delta_weights(const Config& config, std::string_view key) {
  auto weights = config.numbers(key, 4);
  for (const float w : weights)
    if (!(w > 0)) config.node(key).refuse("4 positive numbers");
  return weights;
}

// One list for all levels, lists of one for all levels, or one list a level.
std::vector<std::vector<double>> level_lists(const Config& config, std::string_view key, std::size_t levels) {
  const ConfigTree& node = config.node(key);
  if (!node.is_list() || node.items.empty()) node.refuse("lists of numbers");
  std::vector<std::vector<double>> lists;
  if (node.items[0].is_list()) {
    for (const ConfigTree& item : node.items) lists.push_back(item.as_doubles());
  } else {
    lists.push_back(node.as_doubles());
  }
  if (lists.size() == 1) lists.resize(levels, lists[0]);
  if (lists.size() != levels) node.refuse(fmt::format("one list, or one for each of {} levels", levels));
  for (const auto& list : lists)
    if (list.empty() || list.size() > kMaxAnchors)
      node.refuse(fmt::format("lists of 1 to {} numbers", kMaxAnchors));
  return lists;
}

Anchors anchor_options(const Config& config, std::string_view in_features) {
  const std::size_t levels = config.texts(in_features).size();
  Anchors anchors{.sizes = level_lists(config, "MODEL.ANCHOR_GENERATOR.SIZES", levels),
                  .ratios = level_lists(config, "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", levels),
                  .offset = config.number("MODEL.ANCHOR_GENERATOR.OFFSET")};
  if (!(anchors.offset >= 0 && anchors.offset < 1))
    config.node("MODEL.ANCHOR_GENERATOR.OFFSET").refuse("a number from 0 to below 1");
  return anchors;
}

int stage_of(const Config& config, std::string_view key, const std::string& name) {
  for (int stage = 2; stage <= 5; ++stage)
    if (name == fmt::format("res{}", stage)) return stage;
  if (name == "stem") return 1;
  config.refuse(key, fmt::format("'{}' is none of stem, res2, res3, res4, res5", name));
}

void read_pyramid(const Config& config, Backbone& out) {
  const bool retinanet = config.text("MODEL.BACKBONE.NAME") == "build_retinanet_resnet_fpn_backbone";
  out.pyramid = true;
  out.fpn = {.width = config.at_least(1, "MODEL.FPN.OUT_CHANNELS"),
             .batch_norm = batch_norm_option(config, "MODEL.FPN.NORM"),
             .group_norm = group_norm_option(config, "MODEL.FPN.NORM"),
             .top = retinanet ? Fpn::Top::kConvs : Fpn::Top::kMaxPool};
  out.fpn_inputs = config.texts("MODEL.FPN.IN_FEATURES");
  if (out.trunk.res5_dilation != 1)
    config.refuse("MODEL.RESNETS.RES5_DILATION", "a pyramid needs strides that double");
  int stage = out.fpn_inputs.empty() ? 0 : stage_of(config, "MODEL.FPN.IN_FEATURES", out.fpn_inputs[0]);
  for (const std::string& name : out.fpn_inputs) {
    const bool in_trunk = std::find(out.outputs.begin(), out.outputs.end(), name) != out.outputs.end();
    if (!in_trunk) config.refuse("MODEL.FPN.IN_FEATURES", "MODEL.RESNETS.OUT_FEATURES lacks " + name);
    if (stage_of(config, "MODEL.FPN.IN_FEATURES", name) != stage++)
      config.refuse("MODEL.FPN.IN_FEATURES", "a pyramid needs stages that follow each other");
  }
  if (stage != 6) config.refuse("MODEL.FPN.IN_FEATURES", "the pyramid's top starts from res5");
  out.multiple = 32;
}

}  // namespace

Backbone backbone_options(const Config& config) {
  const std::string name = config.text("MODEL.BACKBONE.NAME");
  Backbone out{.trunk = {.depth = config.integer("MODEL.RESNETS.DEPTH"),
                         .stem_width = config.at_least(1, "MODEL.RESNETS.STEM_OUT_CHANNELS"),
                         .res2_width = config.at_least(1, "MODEL.RESNETS.RES2_OUT_CHANNELS"),
                         .groups = config.at_least(1, "MODEL.RESNETS.NUM_GROUPS"),
                         .group_width = config.at_least(1, "MODEL.RESNETS.WIDTH_PER_GROUP"),
                         .stride_in_1x1 = config.flag("MODEL.RESNETS.STRIDE_IN_1X1"),
                         .res5_dilation = config.integer("MODEL.RESNETS.RES5_DILATION"),
                         .group_norm = group_norm_option(config, "MODEL.RESNETS.NORM")},
               .outputs = config.texts("MODEL.RESNETS.OUT_FEATURES")};
  const ResNet& trunk = out.trunk;
  if (!batch_norm_option(config, "MODEL.RESNETS.NORM") && !trunk.group_norm.exists())
    config.refuse("MODEL.RESNETS.NORM", "a trunk needs a norm");
  constexpr std::array<int, 5> kDepths{18, 34, 50, 101, 152};
  if (std::find(kDepths.begin(), kDepths.end(), trunk.depth) == kDepths.end())
    config.refuse("MODEL.RESNETS.DEPTH", "only 18, 34, 50, 101 and 152 are");
  if (trunk.res5_dilation != 1 && trunk.res5_dilation != 2)
    config.refuse("MODEL.RESNETS.RES5_DILATION", "only 1 and 2 are");
  if (std::int64_t{trunk.groups} * trunk.group_width > kMaxWidth)
    config.refuse("MODEL.RESNETS.WIDTH_PER_GROUP",
                  fmt::format("bottlenecks wider than {} are not", kMaxWidth));
  if (trunk.depth < 50 && (trunk.res2_width != 64 || trunk.groups != 1 || trunk.res5_dilation != 1))
    config.refuse("MODEL.RESNETS.DEPTH",
                  "ResNet-18 and 34 need RES2_OUT_CHANNELS 64, NUM_GROUPS 1 and RES5_DILATION 1");
  out.last_stage = 1;
  for (const std::string& feature : out.outputs)
    out.last_stage = std::max(out.last_stage, stage_of(config, "MODEL.RESNETS.OUT_FEATURES", feature));
  if (name == "build_resnet_fpn_backbone" || name == "build_retinanet_resnet_fpn_backbone") {
    read_pyramid(config, out);
  } else if (name != "build_resnet_backbone") {
    config.refuse(
        "MODEL.BACKBONE.NAME",
        "only build_resnet_backbone, build_resnet_fpn_backbone and build_retinanet_resnet_fpn_backbone are");
  }
  return out;
}

PhotoInput input_options(const Config& config, int multiple, int height, int width) {
  PhotoInput out{.longest = config.at_least(1, "INPUT.MAX_SIZE_TEST"),
                 .bgr = config.text("INPUT.FORMAT") == "BGR",
                 .mean = config.numbers("MODEL.PIXEL_MEAN", 3),
                 .std = config.numbers("MODEL.PIXEL_STD", 3),
                 .multiple = multiple,
                 .canvas_height = height,
                 .canvas_width = width};
  if (!out.bgr && config.text("INPUT.FORMAT") != "RGB") config.refuse("INPUT.FORMAT", "only BGR and RGB are");
  for (const float s : out.std)
    if (!(s > 0)) config.node("MODEL.PIXEL_STD").refuse("positive numbers");
  if (config.integer("INPUT.MIN_SIZE_TEST") == 0)
    config.refuse("INPUT.MIN_SIZE_TEST", "it feeds photos as they are; set the size of the shorter side");
  // Where the shorter side's aim is above the longer side's limit, the limit decides alone.
  out.shortest = std::min(config.at_least(1, "INPUT.MIN_SIZE_TEST"), out.longest);
  check_canvas(height, width, multiple);
  return out;
}

Rpn rpn_options(const Config& config) {
  Rpn out{.widths = config.integers("MODEL.RPN.CONV_DIMS"),
          .anchors = anchor_options(config, "MODEL.RPN.IN_FEATURES"),
          .delta_weights = delta_weights(config, "MODEL.RPN.BBOX_REG_WEIGHTS"),
          .before_nms = config.at_least(1, "MODEL.RPN.PRE_NMS_TOPK_TEST", kMaxBoxes),
          .after_nms = config.at_least(1, "MODEL.RPN.POST_NMS_TOPK_TEST", kMaxBoxes),
          .iou = threshold(config, "MODEL.RPN.NMS_THRESH"),
          .min_size = config.number("MODEL.PROPOSAL_GENERATOR.MIN_SIZE")};
  for (const int width : out.widths)
    if (width != -1 && (width < 1 || width > kMaxWidth))
      config.node("MODEL.RPN.CONV_DIMS").refuse("widths, or -1");
  if (out.widths.empty() || out.widths.size() > kMaxLayers)
    config.node("MODEL.RPN.CONV_DIMS").refuse(fmt::format("1 to {} widths", kMaxLayers));
  return out;
}

GivenProposals given_proposal_options(const Config& config) {
  if (!config.flag("MODEL.LOAD_PROPOSALS"))
    config.refuse("MODEL.LOAD_PROPOSALS", "PrecomputedProposals have to be loaded");
  return {.top = config.at_least(1, "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST", kMaxBoxes),
          .min_size = config.number("MODEL.PROPOSAL_GENERATOR.MIN_SIZE")};
}

RetinaNetHead retinanet_options(const Config& config) {
  if (!config.text("MODEL.RETINANET.NORM").empty())
    config.refuse("MODEL.RETINANET.NORM", "heads with a norm for each level are not");
  return {.classes = config.at_least(1, "MODEL.RETINANET.NUM_CLASSES"),
          .convs = config.at_least(0, "MODEL.RETINANET.NUM_CONVS", kMaxLayers),
          .anchors = anchor_options(config, "MODEL.RETINANET.IN_FEATURES"),
          .delta_weights = delta_weights(config, "MODEL.RETINANET.BBOX_REG_WEIGHTS"),
          .before_nms = config.at_least(1, "MODEL.RETINANET.TOPK_CANDIDATES_TEST", kMaxBoxes),
          .rule = {.score = threshold(config, "MODEL.RETINANET.SCORE_THRESH_TEST"),
                   .iou = threshold(config, "MODEL.RETINANET.NMS_THRESH_TEST"),
                   .max_detections = config.at_least(1, "TEST.DETECTIONS_PER_IMAGE", kMaxBoxes)}};
}

RoiPooler pooler_options(const Config& config, const std::string& head) {
  const std::string type = config.text(head + ".POOLER_TYPE");
  if (type != "ROIAlignV2" && type != "ROIAlign")
    config.refuse(head + ".POOLER_TYPE", "only ROIAlignV2 and ROIAlign are");
  return {.resolution = config.at_least(1, head + ".POOLER_RESOLUTION", kMaxBins),
          .samples = config.at_least(0, head + ".POOLER_SAMPLING_RATIO", kMaxBins),
          .aligned = type == "ROIAlignV2"};
}

BoxHead box_head_options(const Config& config) {
  expect_text(config, "MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead");
  BoxHead out{.convs = config.at_least(0, "MODEL.ROI_BOX_HEAD.NUM_CONV", kMaxLayers),
              .conv_width = config.at_least(1, "MODEL.ROI_BOX_HEAD.CONV_DIM"),
              .batch_norm = batch_norm_option(config, "MODEL.ROI_BOX_HEAD.NORM"),
              .group_norm = group_norm_option(config, "MODEL.ROI_BOX_HEAD.NORM"),
              .fcs = config.at_least(0, "MODEL.ROI_BOX_HEAD.NUM_FC", kMaxLayers),
              .fc_width = config.at_least(1, "MODEL.ROI_BOX_HEAD.FC_DIM")};
  if (out.convs + out.fcs == 0)
    config.refuse("MODEL.ROI_BOX_HEAD.NUM_FC", "a box head without layers is not");
  return out;
}

BoxPredictor box_predictor_options(const Config& config) {
  return {.classes = config.at_least(1, "MODEL.ROI_HEADS.NUM_CLASSES"),
          .class_agnostic = config.flag("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG")};
}

std::vector<std::vector<float>> stage_delta_weights(const Config& config) {
  if (config.text("MODEL.ROI_HEADS.NAME") != "CascadeROIHeads")
    return {delta_weights(config, "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS")};
  if (!config.flag("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG"))
    config.refuse("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "CascadeROIHeads needs class-agnostic boxes");
  constexpr std::string_view kKey = "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS";
  const ConfigTree& node = config.node(kKey);
  const std::size_t stages = config.node("MODEL.ROI_BOX_CASCADE_HEAD.IOUS").as_doubles().size();
  if (!node.is_list() || node.items.size() != stages || stages == 0)
    node.refuse(fmt::format("4 numbers for each of the {} IOUS", stages));
  std::vector<std::vector<float>> out;
  for (const ConfigTree& item : node.items) {
    const auto weights = item.as_doubles();
    if (weights.size() != 4 || std::any_of(weights.begin(), weights.end(), [](double w) { return !(w > 0); }))
      node.refuse("4 positive numbers a stage");
    out.emplace_back(weights.begin(), weights.end());
  }
  return out;
}

DetectionRule detection_rule(const Config& config) {
  return {.score = threshold(config, "MODEL.ROI_HEADS.SCORE_THRESH_TEST"),
          .iou = threshold(config, "MODEL.ROI_HEADS.NMS_THRESH_TEST"),
          .max_detections = config.at_least(1, "TEST.DETECTIONS_PER_IMAGE", kMaxBoxes)};
}

MaskHead mask_head_options(const Config& config) {
  expect_text(config, "MODEL.ROI_MASK_HEAD.NAME", "MaskRCNNConvUpsampleHead");
  const bool one_map = config.flag("MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK");
  const int convs = config.at_least(0, "MODEL.ROI_MASK_HEAD.NUM_CONV", kMaxLayers);
  const int width = config.at_least(1, "MODEL.ROI_MASK_HEAD.CONV_DIM");
  return {.widths = std::vector<int>(static_cast<std::size_t>(convs), width),
          .batch_norm = batch_norm_option(config, "MODEL.ROI_MASK_HEAD.NORM"),
          .group_norm = group_norm_option(config, "MODEL.ROI_MASK_HEAD.NORM"),
          .upsampled = width,
          .classes = one_map ? 1 : config.at_least(1, "MODEL.ROI_HEADS.NUM_CLASSES")};
}

KeypointHead keypoint_head_options(const Config& config) {
  expect_text(config, "MODEL.ROI_KEYPOINT_HEAD.NAME", "KRCNNConvDeconvUpsampleHead");
  KeypointHead out{.widths = config.integers("MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS"),
                   .keypoints = config.at_least(1, "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS")};
  for (const int width : out.widths)
    if (width < 1 || width > kMaxWidth)
      config.node("MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS").refuse(fmt::format("widths from 1 to {}", kMaxWidth));
  if (out.widths.size() > kMaxLayers)
    config.refuse("MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", "so many layers are not");
  return out;
}

}  // namespace osprey::detectron2
