#include "arch/maskrcnn_benchmark/options.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/error.h"

namespace osprey::maskrcnn_benchmark {
namespace {

// More than any detector has; configs are files from outside.
constexpr int kMaxLayers = 64, kMaxBoxes = 1 << 20, kMaxBins = 256, kMaxWidth = 1 << 16, kMaxStride = 1024;
constexpr std::size_t kMaxAnchors = 100;  // sizes, or ratios, of a level

struct Body {
  std::string_view name;
  int depth, last_stage, first_level;
};
constexpr Body kBodies[]{{"R-50-C4", 50, 4, 0},
                         {"R-50-C5", 50, 5, 0},
                         {"R-101-C4", 101, 4, 0},
                         {"R-101-C5", 101, 5, 0},
                         {"R-50-FPN", 50, 5, 2},
                         {"R-101-FPN", 101, 5, 2},
                         {"R-152-FPN", 152, 5, 2},
                         {"R-50-FPN-RETINANET", 50, 5, 3},
                         {"R-101-FPN-RETINANET", 101, 5, 3}};

const Body& body_of(const Config& config) {
  constexpr std::string_view kKey = "MODEL.BACKBONE.CONV_BODY";
  const std::string name = config.text(kKey);
  const auto* const body =
      std::find_if(std::begin(kBodies), std::end(kBodies), [&](const Body& b) { return b.name == name; });
  if (body == std::end(kBodies))
    config.refuse(kKey, "only FBNet and ResNets are (R-50-C4, R-101-FPN and the like)");
  return *body;
}

// Either so many groups or so wide ones.
GroupNormLayer group_norm_rule(const Config& config, bool sequential) {
  constexpr std::string_view kGroups = "MODEL.GROUP_NORM.NUM_GROUPS", kWidth = "MODEL.GROUP_NORM.DIM_PER_GP";
  constexpr std::string_view kEpsilon = "MODEL.GROUP_NORM.EPSILON";
  const int groups = config.integer(kGroups), width = config.integer(kWidth);
  if ((groups == -1) == (width == -1))
    config.refuse(kGroups, fmt::format("one of it and {} must be -1", kWidth));
  GroupNormLayer out{.epsilon = config.number(kEpsilon), .sequential = sequential};
  (width == -1 ? out.groups : out.width) = config.at_least(1, width == -1 ? kGroups : kWidth);
  if (!(out.epsilon >= 0)) config.node(kEpsilon).refuse("a number from 0");
  return out;
}

// The stem and the bottlenecks, which must have the same kind of norm.
GroupNormLayer trunk_norm(const Config& config) {
  constexpr std::string_view kStem = "MODEL.RESNETS.STEM_FUNC", kBlock = "MODEL.RESNETS.TRANS_FUNC";
  const std::string stem = config.text(kStem), block = config.text(kBlock);
  if (stem == "StemWithFixedBatchNorm" && block == "BottleneckWithFixedBatchNorm") return {};
  if (stem != "StemWithGN" || block != "BottleneckWithGN")
    config.refuse(kBlock,
                  "only BottleneckWithFixedBatchNorm with StemWithFixedBatchNorm and BottleneckWithGN with "
                  "StemWithGN are");
  return group_norm_rule(config, /*sequential=*/false);
}

float threshold(const Config& config, std::string_view key) {
  const float value = config.number(key);
  if (!(value >= 0 && value <= 1)) config.node(key).refuse("a number from 0 to 1");
  return value;
}

std::vector<int> widths(const Config& config, std::string_view key) {
  auto out = config.integers(key);
  for (const int width : out)
    if (width < 1 || width > kMaxWidth)
      config.node(key).refuse(fmt::format("widths from 1 to {}", kMaxWidth));
  if (out.empty() || out.size() > kMaxLayers)
    config.node(key).refuse(fmt::format("1 to {} widths", kMaxLayers));
  return out;
}

std::vector<int> strides(const Config& config, std::string_view key) {
  auto out = config.integers(key);
  for (const int stride : out)
    if (stride < 1 || stride > kMaxStride)
      config.node(key).refuse(fmt::format("strides from 1 to {}", kMaxStride));
  if (out.empty() || out.size() > kMaxLayers) config.node(key).refuse("strides");
  return out;
}

// Where a flag asks for group norms: as PyTorch's Sequentials name them.
GroupNormLayer group_norm_option(const Config& config, const std::string& flag, bool sequential = true) {
  if (!config.flag(flag)) return {};
  return group_norm_rule(config, sequential);
}

std::vector<double> positive_numbers(const ConfigTree& node) {
  auto out = node.as_doubles();
  if (out.empty() || out.size() > kMaxAnchors ||
      std::any_of(out.begin(), out.end(), [](double v) { return !(v > 0); }))
    node.refuse(fmt::format("1 to {} positive numbers", kMaxAnchors));
  return out;
}

// The sizes of each level: all of them where there is one, else an entry each, a number or a list.
std::vector<std::vector<double>> level_sizes(const Config& config, std::string_view key, std::size_t levels) {
  const ConfigTree& node = config.node(key);
  if (levels == 1) return {positive_numbers(node)};
  if (!node.is_list() || node.items.size() != levels)
    node.refuse(fmt::format("{} entries, as many as there are strides", levels));
  std::vector<std::vector<double>> out;
  for (const ConfigTree& item : node.items) {
    if (item.is_list())
      out.push_back(positive_numbers(item));
    else if (const double size = item.as_double(); size > 0)
      out.push_back({size});
    else
      item.refuse("a positive number");
  }
  return out;
}

Anchors anchors_of(const Config& config, std::vector<int> level_strides,
                   std::vector<std::vector<double>> sizes, std::string_view ratios,
                   std::vector<float> given) {
  const std::vector<std::vector<double>> all(level_strides.size(), positive_numbers(config.node(ratios)));
  return {.sizes = std::move(sizes),
          .ratios = all,
          .rule = AnchorRule::kRounded,
          .strides = std::move(level_strides),
          .given = std::move(given)};
}

Fpn pyramid_options(const Config& config, const Body& body) {
  Fpn out{.width = config.at_least(1, "MODEL.RESNETS.BACKBONE_OUT_CHANNELS"),
          .group_norm = group_norm_option(config, "MODEL.FPN.USE_GN"),
          .names = {.lateral = "fpn_inner", .output = "fpn_layer", .top = "top_blocks", .first = 1}};
  if (body.first_level == 3) {
    // The framework tells by the widths where P6 starts: with USE_C5, too, from P5 if they are equal.
    const std::int64_t c5 = std::int64_t{config.at_least(1, "MODEL.RESNETS.RES2_OUT_CHANNELS")} * 8;
    const bool on_c5 = config.flag("MODEL.RETINANET.USE_C5") && c5 != out.width;
    out.top = on_c5 ? Fpn::Top::kConvs : Fpn::Top::kConvsOnLast;
  }
  return out;
}

}  // namespace

Backbone backbone_options(const Config& config) {
  const Body& body = body_of(config);
  Backbone out{.trunk = {.depth = body.depth,
                         .stem_width = config.at_least(1, "MODEL.RESNETS.STEM_OUT_CHANNELS"),
                         .res2_width = config.at_least(1, "MODEL.RESNETS.RES2_OUT_CHANNELS"),
                         .groups = config.at_least(1, "MODEL.RESNETS.NUM_GROUPS"),
                         .group_width = config.at_least(1, "MODEL.RESNETS.WIDTH_PER_GROUP"),
                         .stride_in_1x1 = config.flag("MODEL.RESNETS.STRIDE_IN_1X1"),
                         .torchvision_names = true,
                         .epsilon = 0,
                         .group_norm = trunk_norm(config)},
               .last_stage = body.last_stage,
               .first_level = body.first_level,
               .out_channels = config.at_least(1, "MODEL.RESNETS.BACKBONE_OUT_CHANNELS"),
               .multiple = size_multiple(config)};
  if (std::int64_t{out.trunk.groups} * out.trunk.group_width > kMaxWidth)
    config.refuse("MODEL.RESNETS.WIDTH_PER_GROUP",
                  fmt::format("bottlenecks wider than {} are not", kMaxWidth));
  if (body.first_level == 0) {
    if (out.out_channels != resnet_width(out.trunk, body.last_stage))
      config.refuse("MODEL.RESNETS.BACKBONE_OUT_CHANNELS",
                    fmt::format("this trunk gives {} channels", resnet_width(out.trunk, body.last_stage)));
    return out;
  }
  out.fpn = pyramid_options(config, body);
  if (out.multiple % 32 != 0)
    config.refuse("DATALOADER.SIZE_DIVISIBILITY", "a pyramid's levels only fit with multiples of 32");
  return out;
}

int size_multiple(const Config& config) {
  return std::max(config.at_least(0, "DATALOADER.SIZE_DIVISIBILITY", kMaxStride), 1);
}

PhotoInput input_options(const Config& config, int multiple, int height, int width) {
  const bool bgr = config.flag("INPUT.TO_BGR255");
  PhotoInput out{.longest = config.at_least(1, "INPUT.MAX_SIZE_TEST"),
                 .fit = Fit::kShortSide,
                 .bgr = bgr,
                 .scale = bgr ? 1.0f : 1.0f / 255,
                 .mean = config.numbers("INPUT.PIXEL_MEAN", 3),
                 .std = config.numbers("INPUT.PIXEL_STD", 3),
                 .multiple = multiple,
                 .canvas_height = height,
                 .canvas_width = width};
  for (const float s : out.std)
    if (!(s > 0)) config.node("INPUT.PIXEL_STD").refuse("positive numbers");
  // What becomes zero, which the framework pads with.
  for (const float m : out.mean) out.fill.push_back(m / out.scale);
  // Where the shorter side's aim is above the longer side's limit, the limit decides alone.
  out.shortest = std::min(config.at_least(1, "INPUT.MIN_SIZE_TEST"), out.longest);
  check_canvas(height, width, multiple);
  return out;
}

std::vector<int> rpn_strides(const Config& config) {
  auto out = strides(config, "MODEL.RPN.ANCHOR_STRIDE");
  if (!config.flag("MODEL.RPN.USE_FPN") && out.size() != 1)
    config.refuse("MODEL.RPN.ANCHOR_STRIDE", "without MODEL.RPN.USE_FPN there is one stride");
  return out;
}

std::vector<int> retinanet_strides(const Config& config) {
  return strides(config, "MODEL.RETINANET.ANCHOR_STRIDES");
}

Rpn rpn_options(const Config& config, std::vector<float> given) {
  const auto level_strides = rpn_strides(config);
  const std::size_t levels = level_strides.size();
  Rpn out{.anchors = anchors_of(config, level_strides, level_sizes(config, "MODEL.RPN.ANCHOR_SIZES", levels),
                                "MODEL.RPN.ASPECT_RATIOS", std::move(given)),
          .before_nms = config.at_least(1, "MODEL.RPN.PRE_NMS_TOP_N_TEST", kMaxBoxes),
          .iou = threshold(config, "MODEL.RPN.NMS_THRESH"),
          .min_size = config.number("MODEL.RPN.MIN_SIZE"),
          .sigmoid = true,
          .inclusive = true,
          .names = {.head = "head.", .logits = "cls_logits", .deltas = "bbox_pred"}};
  // Without suppression (a threshold of 0) the framework does not limit what a level keeps either.
  const int of_level =
      out.iou > 0 ? std::min(config.at_least(1, "MODEL.RPN.POST_NMS_TOP_N_TEST", kMaxBoxes), out.before_nms)
                  : out.before_nms;
  out.after_nms = levels > 1 ? config.at_least(1, "MODEL.RPN.FPN_POST_NMS_TOP_N_TEST", kMaxBoxes) : of_level;
  if (levels > 1 && of_level < out.before_nms) out.per_level = of_level;
  return out;
}

RetinaNetHead retinanet_options(const Config& config, std::vector<float> given) {
  const auto level_strides = retinanet_strides(config);
  const int scales = config.at_least(1, "MODEL.RETINANET.SCALES_PER_OCTAVE", kMaxLayers);
  const double octave = config.node("MODEL.RETINANET.OCTAVE").as_double();
  auto sizes = level_sizes(config, "MODEL.RETINANET.ANCHOR_SIZES", level_strides.size());
  for (auto& level : sizes) {
    if (level.size() != 1) config.refuse("MODEL.RETINANET.ANCHOR_SIZES", "one size for each level is");
    const double size = level[0];
    level.clear();
    for (int i = 0; i < scales; ++i)
      level.push_back(std::pow(octave, i / static_cast<double>(scales)) * size);
  }
  return {.classes = config.at_least(2, "MODEL.RETINANET.NUM_CLASSES") - 1,
          .convs = config.at_least(0, "MODEL.RETINANET.NUM_CONVS", kMaxLayers),
          .anchors = anchors_of(config, level_strides, std::move(sizes), "MODEL.RETINANET.ASPECT_RATIOS",
                                std::move(given)),
          .delta_weights = {10, 10, 5, 5},  // in the framework's code, not its config
          .before_nms = config.at_least(1, "MODEL.RETINANET.PRE_NMS_TOP_N", kMaxBoxes),
          .rule = {.score = threshold(config, "MODEL.RETINANET.INFERENCE_TH"),
                   .iou = threshold(config, "MODEL.RETINANET.NMS_TH"),
                   .max_detections = config.at_least(1, "TEST.DETECTIONS_PER_IMG", kMaxBoxes),
                   .old_conventions = true},
          .names = {.cls = "cls_tower",
                    .box = "bbox_tower",
                    .scores = "cls_logits",
                    .deltas = "bbox_pred",
                    .scores_stage = "rpn_logits_",
                    .deltas_stage = "rpn_deltas_"}};
}

Pooling pooling_options(const Config& config, const std::string& head) {
  const std::string scales = head + ".POOLER_SCALES";
  Pooling out{.pooler = {.resolution = config.at_least(1, head + ".POOLER_RESOLUTION", kMaxBins),
                         .samples = config.at_least(0, head + ".POOLER_SAMPLING_RATIO", kMaxBins),
                         .aligned = false,
                         .inclusive = true,
                         .level_epsilon = 1e-6f},
              .strides = {}};
  for (const double scale : positive_numbers(config.node(scales))) {
    const double stride = 1 / scale;
    const bool whole = stride >= 1 && stride <= kMaxStride && stride == std::floor(stride);
    if (!whole || !std::has_single_bit(static_cast<unsigned>(stride)) ||
        (!out.strides.empty() && static_cast<int>(stride) != 2 * out.strides.back()))
      config.refuse(scales, "only powers of two, each half of the one before, are");
    out.strides.push_back(static_cast<int>(stride));
  }
  return out;
}

BoxHead box_head_options(const Config& config) {
  const int width = config.at_least(1, "MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM");
  const std::string norms = "MODEL.ROI_BOX_HEAD.USE_GN";
  if (config.text("MODEL.ROI_BOX_HEAD.FEATURE_EXTRACTOR") == "FPN2MLPFeatureExtractor")
    return {.convs = 0,
            .fcs = 2,
            .fc_width = width,
            .conv_names = {},
            .fc_names = {"fc6", "fc7"},
            .fc_group_norm = group_norm_option(config, norms)};
  BoxHead out{.convs = config.at_least(0, "MODEL.ROI_BOX_HEAD.NUM_STACKED_CONVS", kMaxLayers),
              .conv_width = config.at_least(1, "MODEL.ROI_BOX_HEAD.CONV_HEAD_DIM"),
              .group_norm = group_norm_option(config, norms, /*sequential=*/false),
              .fcs = 1,
              .fc_width = width,
              .dilation = config.at_least(1, "MODEL.ROI_BOX_HEAD.DILATION", kMaxStride),
              .conv_names = {},
              .fc_names = {"fc6"}};
  const int layers = out.group_norm.exists() ? 3 : 2;  // a ReLU at the end
  for (int i = 0; i < out.convs; ++i) {
    out.conv_names.push_back(fmt::format("xconvs.{}", layers * i));
    out.norm_names.push_back(fmt::format("xconvs.{}", layers * i + 1));
  }
  return out;
}

int class_count(const Config& config) { return config.at_least(2, "MODEL.ROI_BOX_HEAD.NUM_CLASSES") - 1; }

BoxPredictor box_predictor_options(const Config& config) {
  return {.classes = class_count(config),
          .class_agnostic = config.flag("MODEL.CLS_AGNOSTIC_BBOX_REG"),
          .background_deltas = true};
}

std::vector<float> delta_weights(const Config& config) {
  constexpr std::string_view kKey = "MODEL.ROI_HEADS.BBOX_REG_WEIGHTS";
  auto weights = config.numbers(kKey, 4);
  for (const float w : weights)
    if (!(w > 0)) config.node(kKey).refuse("4 positive numbers");
  return weights;
}

DetectionRule detection_rule(const Config& config) {
  return {.score = threshold(config, "MODEL.ROI_HEADS.SCORE_THRESH"),
          .iou = threshold(config, "MODEL.ROI_HEADS.NMS"),
          .max_detections = config.at_least(1, "MODEL.ROI_HEADS.DETECTIONS_PER_IMG", kMaxBoxes),
          .old_conventions = true};
}

MaskHead mask_head_options(const Config& config) {
  constexpr std::string_view kPredictor = "MODEL.ROI_MASK_HEAD.PREDICTOR";
  const std::string predictor = config.text(kPredictor);
  const bool enlarges = predictor == "MaskRCNNC4Predictor";
  if (!enlarges && predictor != "MaskRCNNConv1x1Predictor")
    config.refuse(kPredictor, "only MaskRCNNC4Predictor and MaskRCNNConv1x1Predictor are");
  MaskHead out{.widths = widths(config, "MODEL.ROI_MASK_HEAD.CONV_LAYERS"),
               .dilation = config.at_least(1, "MODEL.ROI_MASK_HEAD.DILATION", kMaxStride),
               .group_norm = group_norm_option(config, "MODEL.ROI_MASK_HEAD.USE_GN"),
               .classes = class_count(config) + 1,
               .deconv = "conv5_mask",
               .predictor = "mask_fcn_logits"};
  out.upsampled = enlarges ? out.widths.back() : 0;
  return out;
}

KeypointHead keypoint_head_options(const Config& config) {
  constexpr std::string_view kPredictor = "MODEL.ROI_KEYPOINT_HEAD.PREDICTOR";
  if (config.text(kPredictor) != "KeypointRCNNPredictor")
    config.refuse(kPredictor, "only KeypointRCNNPredictor is");
  return {.widths = widths(config, "MODEL.ROI_KEYPOINT_HEAD.CONV_LAYERS"),
          .keypoints = config.at_least(1, "MODEL.ROI_KEYPOINT_HEAD.NUM_CLASSES"),
          .lowres = "kps_score_lowres"};
}

}  // namespace osprey::maskrcnn_benchmark
