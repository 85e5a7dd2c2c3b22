#include "arch/tfod/ssd_options.h"

#include <algorithm>

#include "core/error.h"

namespace osprey::tfod {
namespace {

const std::string kSsd = "model.ssd.", kExtractor = kSsd + "feature_extractor.";

// More than any detector has; configs are files from outside.
constexpr int kMaxSide = 1 << 14, kMaxLayers = 64, kMaxLevel = 12;
constexpr std::size_t kMaxAnchors = 64;  // a cell

struct Extractor {
  std::string_view type;
  TrunkKind trunk;
  int variant;  // MobileNet's version, ResNet's depth, or EfficientNet's number
  bool pyramid;
};
constexpr std::array<Extractor, 15> kExtractors{
    {{"ssd_mobilenet_v1_keras", TrunkKind::kMobileNet, 1, false},
     {"ssd_mobilenet_v1_fpn_keras", TrunkKind::kMobileNet, 1, true},
     {"ssd_mobilenet_v2_keras", TrunkKind::kMobileNet, 2, false},
     {"ssd_mobilenet_v2_fpn_keras", TrunkKind::kMobileNet, 2, true},
     {"ssd_resnet50_v1_fpn_keras", TrunkKind::kResNet, 50, true},
     {"ssd_resnet101_v1_fpn_keras", TrunkKind::kResNet, 101, true},
     {"ssd_resnet152_v1_fpn_keras", TrunkKind::kResNet, 152, true},
     {"ssd_efficientnet-b0_bifpn_keras", TrunkKind::kEfficientNet, 0, true},
     {"ssd_efficientnet-b1_bifpn_keras", TrunkKind::kEfficientNet, 1, true},
     {"ssd_efficientnet-b2_bifpn_keras", TrunkKind::kEfficientNet, 2, true},
     {"ssd_efficientnet-b3_bifpn_keras", TrunkKind::kEfficientNet, 3, true},
     {"ssd_efficientnet-b4_bifpn_keras", TrunkKind::kEfficientNet, 4, true},
     {"ssd_efficientnet-b5_bifpn_keras", TrunkKind::kEfficientNet, 5, true},
     {"ssd_efficientnet-b6_bifpn_keras", TrunkKind::kEfficientNet, 6, true},
     {"ssd_efficientnet-b7_bifpn_keras", TrunkKind::kEfficientNet, 7, true}}};

const Extractor& read_extractor(Config& config) {
  const std::string type = config.text(kExtractor + "type", "");
  const auto it = std::find_if(kExtractors.begin(), kExtractors.end(),
                               [&](const Extractor& e) { return e.type == type; });
  if (it != kExtractors.end()) return *it;
  std::string known;
  for (const Extractor& e : kExtractors) known += (known.empty() ? "" : ", ") + std::string(e.type);
  config.refuse(kExtractor + "type", fmt::format("of an SSD, {} are", known));
}

SsdInput read_input(Config& config, int height, int width) {
  const std::string path = kSsd + "image_resizer", kind = config.alternative(path);
  const std::string at = path + "." + kind + ".";
  if (kind != "fixed_shape_resizer" && kind != "keep_aspect_ratio_resizer")
    config.refuse(path, "only fixed_shape_resizer and keep_aspect_ratio_resizer are");
  if (config.text(at + "resize_method", "BILINEAR") != "BILINEAR")
    config.refuse(at + "resize_method", "only BILINEAR is");
  config.expect(at + "convert_to_grayscale", false, false, "only colour is");
  if (kind == "fixed_shape_resizer") {
    SsdInput out{.height = config.integer(at + "height", 300, 1, kMaxSide),
                 .width = config.integer(at + "width", 300, 1, kMaxSide)};
    if (height > 0) out.height = height, out.width = width;
    return out;
  }
  SsdInput out{.fit = Fit::kKeepAspect,
               .height = 0,
               .width = 0,
               .shortest = config.integer(at + "min_dimension", 600, 1, kMaxSide),
               .longest = config.integer(at + "max_dimension", 1024, 1, kMaxSide)};
  if (out.longest < out.shortest) config.refuse(at + "max_dimension", "it is less than min_dimension");
  if (height > 0) {
    require(height == width,
            "{}: a fixed size of {}x{} is not supported: only a square is, which photos are fitted into",
            path, height, width);
    out.height = out.width = out.shortest = out.longest = height;
  }
  if (config.flag(at + "pad_to_max_dimension", false)) out.height = out.width = out.longest;
  if (!config.numbers(at + "per_channel_pad_value").empty())
    config.refuse(at + "per_channel_pad_value", "an SSD pads with zeros behind its normalisation");
  return out;
}

// Zeros that the extractor adds to the right and below.
void read_multiple(Config& config, SsdInput& input) {
  const int multiple = config.integer(kExtractor + "pad_to_multiple", 1, 1, 1024);
  if (input.height == 0)
    input.multiple = multiple;
  else if (input.height % multiple != 0 || input.width % multiple != 0)
    config.refuse(kExtractor + "pad_to_multiple", "the resizer's extents are no multiples of it");
}

SsdTrunk read_trunk(Config& config, const Extractor& extractor, const Hyperparams& layers) {
  SsdTrunk out{.kind = extractor.trunk};
  const float multiplier = config.number(kExtractor + "depth_multiplier", 1);
  if (!(multiplier > 0 && multiplier <= 16)) config.refuse(kExtractor + "depth_multiplier", "out of range");
  const int min_depth = config.integer(kExtractor + "min_depth", 16, 0, 4096);
  const bool overridden = config.flag(kExtractor + "override_base_feature_extractor_hyperparams", false);
  switch (extractor.trunk) {
    case TrunkKind::kMobileNet:
      out.mobilenet.version = extractor.variant;
      out.mobilenet.depth_multiplier = multiplier;
      out.mobilenet.min_depth = min_depth;
      if (overridden) out.mobilenet.layers = layers;
      break;
    case TrunkKind::kResNet:
      out.resnet.depth = extractor.variant;
      out.resnet.depth_multiplier = multiplier;
      out.resnet.min_depth = min_depth;
      if (!overridden) break;
      out.resnet.activation = layers.activation;
      if (!layers.norm) config.refuse(kExtractor + "conv_hyperparams", "a ResNet needs a batch_norm");
      out.resnet.norm = *layers.norm;
      break;
    case TrunkKind::kEfficientNet:  // which overrides no more than its weight decay
      if (multiplier != 1) config.refuse(kExtractor + "depth_multiplier", "of an EfficientNet only 1 is");
      config.expect(kExtractor + "use_depthwise", false, false, "an EfficientNet with a BiFPN has none");
      out.efficientnet = *official_efficientnet(fmt::format("efficientnet-b{}", extractor.variant));
      out.efficientnet.prefix = "model/_feature_extractor/_efficientnet/";
      out.efficientnet.tf_models = true;
      break;
  }
  return out;
}

// What an extractor has when its config says nothing of the pyramid.
struct Pyramid {
  int cells, width;
  std::string_view combine = "fast_attention";
};
constexpr std::array<Pyramid, 8> kPyramids{
    {{3, 64}, {4, 88}, {5, 112}, {6, 160}, {7, 224}, {7, 288}, {8, 384, "sum"}, {8, 384, "sum"}}};

BiFpn read_bifpn(Config& config, const Extractor& extractor, const Hyperparams& layers, int min_depth) {
  const std::string at = kExtractor + "bifpn.";
  if (!layers.norm) config.refuse(kExtractor + "conv_hyperparams", "a BiFPN needs a batch_norm");
  Pyramid pyramid = kPyramids.at(static_cast<std::size_t>(extractor.variant));
  if (config.has(kExtractor + "bifpn"))
    pyramid = {config.integer(at + "num_iterations", 0, 1, kMaxLayers),
               config.integer(at + "num_filters", 0, 0, 4096)};
  BiFpn out{.width = std::max(pyramid.width, min_depth),
            .cells = pyramid.cells,
            .min_level = config.integer(at + "min_level", 3, 1, 5),
            .project_trunk = true,
            .bias = layers.bias(),
            .norm = *layers.norm,
            .activation = layers.activation,
            .tf_models = true,
            .prefix = "model/_feature_extractor/_bifpn_stage/"};
  out.max_level = config.integer(at + "max_level", 7, out.min_level + 1, 10);
  out.norm.exact_factor = true;
  const std::string method = config.text(at + "combine_method", std::string(pyramid.combine));
  if (method != "fast_attention" && method != "sum")
    config.refuse(at + "combine_method", "only fast_attention and sum are");
  out.weighted = method == "fast_attention";
  return out;
}

SsdMaps read_maps(Config& config, const Extractor& extractor, const Hyperparams& layers) {
  SsdMaps out{.pyramid = extractor.pyramid, .layers = layers};
  out.depthwise =
      config.flag(kExtractor + "use_depthwise", false) && extractor.trunk == TrunkKind::kMobileNet;
  out.depth_multiplier = config.number(kExtractor + "depth_multiplier", 1);
  out.min_depth = config.integer(kExtractor + "min_depth", 16, 0, 4096);
  const int count = config.integer(kExtractor + "num_layers", 6, 1, kMaxLayers);
  if (extractor.trunk == TrunkKind::kEfficientNet) {
    out.bifpn = read_bifpn(config, extractor, layers, out.min_depth);
    out.min_level = out.bifpn->min_level;
    out.max_level = out.bifpn->max_level;
  } else if (extractor.pyramid) {
    const std::string fpn = kExtractor + "fpn.";
    out.min_level = config.integer(fpn + "min_level", 3);
    out.max_level = config.integer(fpn + "max_level", 7);
    if (out.min_level < 2 || out.min_level > 5) config.refuse(fpn + "min_level", "only 2 to 5 are");
    if (out.max_level < 5 || out.max_level > kMaxLevel)
      config.refuse(fpn + "max_level", fmt::format("only 5 to {} are", kMaxLevel));
    const int depth = config.integer(fpn + "additional_layer_depth", 256, 1);
    out.depth = std::max(static_cast<int>(static_cast<float>(depth) * out.depth_multiplier), out.min_depth);
  } else {
    if (count > 6) config.refuse(kExtractor + "num_layers", "only 1 to 6 are");
    out.count = count;
  }
  return out;
}

void read_clip_range(Config& config, const std::string& path) {
  if (config.has(path)) config.refuse(path, "box encodings are never clipped");
}

SsdHeads separate_heads(Config& config, const std::string& at) {
  SsdHeads out{.layers = read_hyperparams(config, at + "conv_hyperparams"),
               .convs = config.integer(at + "num_layers_before_predictor", 0, 0, kMaxLayers),
               .depth = config.integer(at + "min_depth", 0),
               .kernel = config.integer(at + "kernel_size", 1, 1, 31),
               .max_depth = config.integer(at + "max_depth", 0),
               .depthwise = config.flag(at + "use_depthwise", false),
               .dropout = config.flag(at + "use_dropout", true)};
  config.expect(at + "apply_sigmoid_to_scores", false, false, "the score_converter does that");
  return out;
}

SsdHeads shared_heads(Config& config, const std::string& at) {
  SsdHeads out{.shared = true,
               .layers = read_hyperparams(config, at + "conv_hyperparams"),
               .convs = config.integer(at + "num_layers_before_predictor", 0, 0, kMaxLayers),
               .depth = config.integer(at + "depth", 0),
               .kernel = config.integer(at + "kernel_size", 3, 1, 31),
               .depthwise = config.flag(at + "use_depthwise", false),
               .one_tower = config.flag(at + "share_prediction_tower", false),
               .dropout = config.flag(at + "use_dropout", false)};
  // The API looks for batch_norm alone here (box_predictor_builder.py).
  if (!config.has(at + "conv_hyperparams.batch_norm")) out.layers.norm.reset();
  for (const char* initial : {"apply_conv_hyperparams_to_heads", "apply_conv_hyperparams_pointwise"})
    config.ignore(at + initial);
  if (out.convs > 0 && out.depth < 1) config.refuse(at + "depth", "a tower needs a width");
  if (config.text(at + "score_converter", "IDENTITY") != "IDENTITY")
    config.refuse(at + "score_converter", "only that of post_processing is");
  return out;
}

SsdHeads read_heads(Config& config) {
  const std::string path = kSsd + "box_predictor", kind = config.alternative(path);
  const std::string at = path + "." + kind + ".";
  if (kind != "convolutional_box_predictor" && kind != "weight_shared_convolutional_box_predictor")
    config.refuse(path, "only convolutional_box_predictor and weight_shared_convolutional_box_predictor are");
  for (const char* training : {"dropout_keep_probability", "class_prediction_bias_init"})
    config.ignore(at + training);
  if (config.integer(at + "box_code_size", 4) != 4) config.refuse(at + "box_code_size", "only 4 is");
  read_clip_range(config, at + "box_encodings_clip_range");
  return kind == "convolutional_box_predictor" ? separate_heads(config, at) : shared_heads(config, at);
}

void check_numbers(Config& config, const std::string& path, const std::vector<float>& numbers) {
  if (numbers.size() > kMaxAnchors) config.refuse(path, fmt::format("at most {} numbers are", kMaxAnchors));
  for (const float n : numbers)
    if (!(n > 1e-6f && n < 1e6f)) config.refuse(path, "only positive numbers are");
}

SsdAnchors multiscale_anchors(Config& config, const std::string& at) {
  SsdAnchors out{.multiscale = true,
                 .min_level = config.integer(at + "min_level", 3, 0, kMaxLevel),
                 .max_level = config.integer(at + "max_level", 7, 0, kMaxLevel),
                 .scales_per_octave = config.integer(at + "scales_per_octave", 2, 1, 16),
                 .anchor_scale = config.number(at + "anchor_scale", 4),
                 .ratios = config.numbers(at + "aspect_ratios")};
  check_numbers(config, at + "anchor_scale", {out.anchor_scale});
  config.expect(at + "normalize_coordinates", true, true, "an SSD's anchors are normalised");
  return out;
}

SsdAnchors ssd_anchors(Config& config, const std::string& at) {
  SsdAnchors out{.scales = config.numbers(at + "scales"),
                 .reduce_lowest = config.flag(at + "reduce_boxes_in_lowest_layer", true),
                 .interpolated_ratio = config.number(at + "interpolated_scale_aspect_ratio", 1),
                 .base_height = config.number(at + "base_anchor_height", 1),
                 .base_width = config.number(at + "base_anchor_width", 1),
                 .height_strides = config.numbers(at + "height_stride"),
                 .width_strides = config.numbers(at + "width_stride"),
                 .height_offsets = config.numbers(at + "height_offset"),
                 .width_offsets = config.numbers(at + "width_offset"),
                 .ratios = config.numbers(at + "aspect_ratios")};
  const int layers = config.integer(at + "num_layers", 6, 1, kMaxLayers);
  const double least = config.number(at + "min_scale", 0.2f), most = config.number(at + "max_scale", 0.95f);
  check_numbers(config, at + "scales", out.scales);
  check_numbers(config, at + "min_scale", {static_cast<float>(least), static_cast<float>(most)});
  check_numbers(config, at + "base_anchor_height", {out.base_height, out.base_width});
  if (out.scales.empty()) {
    if (layers == 1) config.refuse(at + "num_layers", "scales between two ends need 2");
    for (int i = 0; i < layers; ++i)
      out.scales.push_back(static_cast<float>(least + (most - least) * i / (layers - 1)));
  } else if (out.scales.size() < static_cast<std::size_t>(layers)) {
    config.refuse(at + "scales", "there are fewer than num_layers");
  } else {
    out.scales.resize(static_cast<std::size_t>(layers));
  }
  out.scales.push_back(1);
  for (const auto& [name, list] : {std::pair{"height_stride", &out.height_strides},
                                   {"width_stride", &out.width_strides},
                                   {"height_offset", &out.height_offsets},
                                   {"width_offset", &out.width_offsets}})
    if (!list->empty() && list->size() != static_cast<std::size_t>(layers))
      config.refuse(at + name, "expected one number a layer, or none");
  check_numbers(config, at + "height_stride", out.height_strides);
  check_numbers(config, at + "width_stride", out.width_strides);
  return out;
}

SsdAnchors read_anchors(Config& config) {
  const std::string path = kSsd + "anchor_generator", kind = config.alternative(path);
  const std::string at = path + "." + kind + ".";
  if (kind != "multiscale_anchor_generator" && kind != "ssd_anchor_generator")
    config.refuse(path, "of an SSD, only multiscale_anchor_generator and ssd_anchor_generator are");
  SsdAnchors out =
      kind == "multiscale_anchor_generator" ? multiscale_anchors(config, at) : ssd_anchors(config, at);
  if (out.ratios.empty()) config.refuse(at + "aspect_ratios", "an anchor needs one");
  check_numbers(config, at + "aspect_ratios", out.ratios);
  return out;
}

std::vector<float> read_box_coder(Config& config) {
  const std::string path = kSsd + "box_coder", at = path + ".faster_rcnn_box_coder.";
  if (config.alternative(path) != "faster_rcnn_box_coder")
    config.refuse(path, "only faster_rcnn_box_coder is");
  std::vector<float> out;
  for (const auto& [name, standard] :
       {std::pair{"x_scale", 10.f}, {"y_scale", 10.f}, {"width_scale", 5.f}, {"height_scale", 5.f}}) {
    out.push_back(config.number(at + name, standard));
    if (!(out.back() > 0)) config.refuse(at + name, "only positive numbers are");
  }
  return out;
}

DetectAnchors read_post_processing(Config& config, bool background) {
  const std::string path = kSsd + "post_processing.", nms = path + "batch_non_max_suppression.";
  if (config.text(path + "score_converter", "IDENTITY") != "SIGMOID")
    config.refuse(path + "score_converter", "of an SSD, only SIGMOID is");
  if (config.number(path + "logit_scale", 1) != 1) config.refuse(path + "logit_scale", "only 1 is");
  if (config.has(path + "calibration_config"))
    config.refuse(path + "calibration_config", "scores are never calibrated");
  for (const char* other : {"use_partitioned_nms", "use_combined_nms"})
    config.expect(nms + other, false, false, "its results are others");
  // How it is computed, and in which frame boxes are given: here always in the photo's pixels.
  for (const char* same : {"use_static_shapes", "use_cpu_nms", "change_coordinate_frame"})
    config.ignore(nms + same);
  const bool agnostic = config.flag(nms + "use_class_agnostic_nms", false);
  if (config.integer(nms + "max_classes_per_detection", 1) != 1 && agnostic)
    config.refuse(nms + "max_classes_per_detection", "only 1 is");
  const bool hard = config.flag(nms + "use_hard_nms", false);
  DetectAnchors out{.scores = background ? AnchorScores::kSigmoidSkipFirst : AnchorScores::kSigmoid,
                    .weights = read_box_coder(config),
                    .max_log_scale = 0,
                    .delta_order = DeltaOrder::kYxhw,
                    .best_class_only = agnostic,
                    .agnostic = agnostic,
                    .threshold = config.fraction(nms + "score_threshold", 0),
                    .iou = config.fraction(nms + "iou_threshold", 0.6f),
                    .soft_sigma = hard ? 0 : config.fraction(nms + "soft_nms_sigma", 0),
                    .max_per_class = config.integer(nms + "max_detections_per_class", 100, 1, 100000),
                    .max_detections = config.integer(nms + "max_total_detections", 100, 1, 100000),
                    .clip = KeptClip::kDropEmpty};
  config.ignore(nms + "soft_nms_sigma");
  if (agnostic) out.max_per_class = out.max_detections;
  return out;
}

void ignore_training(Config& config) {
  for (const char* field :
       {"matcher", "similarity_calculator", "encode_background_as_zeros", "negative_class_weight",
        "normalize_loss_by_num_matches", "normalize_loc_loss_by_codesize", "loss", "freeze_batchnorm",
        "inplace_batchnorm_update", "use_confidences_as_targets", "implicit_example_weight",
        "return_raw_detections_during_predict", "weight_regression_loss_by_score"})
    config.ignore(kSsd + field);
}

// What the parts have to agree in.
void check_fit(Config& config, const Ssd& m) {
  const std::string generator = kSsd + "anchor_generator";
  const int maps = m.maps.pyramid ? m.maps.max_level - m.maps.min_level + 1 : m.maps.count;
  if (m.anchors.levels() != maps)
    config.refuse(generator, fmt::format("it has anchors for {} feature maps, but there are {}",
                                         m.anchors.levels(), maps));
  if (m.anchors.multiscale && m.maps.pyramid && m.anchors.min_level != m.maps.min_level)
    config.refuse(generator, "its levels are others than the pyramid's");
  const bool dynamic = m.input.height == 0;
  if (dynamic && !m.anchors.multiscale)
    config.refuse(generator, "without a fixed input only a multiscale_anchor_generator is");
  if (dynamic && m.maps.bifpn)
    config.refuse(kSsd + "image_resizer", "a BiFPN needs a fixed input: pad_to_max_dimension");
  const int top = m.maps.bifpn ? 1 << m.maps.max_level : m.maps.pyramid ? 32 : 1;
  if (dynamic && m.input.multiple % top != 0)
    config.refuse(kSsd + "image_resizer", fmt::format("a pyramid needs extents that are multiples of {}: "
                                                      "pad_to_max_dimension, or the extractor's "
                                                      "pad_to_multiple",
                                                      top));
  if (!dynamic && (m.input.height % top != 0 || m.input.width % top != 0))
    config.refuse(kSsd + "image_resizer",
                  fmt::format("a pyramid needs extents that are multiples of {}", top));
}

std::string describe(const Extractor& extractor, const Ssd& m) {
  if (m.maps.bifpn) return fmt::format("SSD, EfficientNet-b{} BiFPN (EfficientDet)", extractor.variant);
  const char* trunk = extractor.trunk == TrunkKind::kMobileNet ? "MobileNet V" : "ResNet-";
  return fmt::format("SSD, {}{}{}{}", trunk, extractor.variant, extractor.pyramid ? " FPN" : "",
                     m.maps.depthwise ? "Lite" : "");
}

}  // namespace

Ssd ssd_options(Config& config, int height, int width) {
  Ssd out;
  const Extractor& extractor = read_extractor(config);
  ignore_training(config);
  out.classes = config.integer(kSsd + "num_classes", 0, 1, 100000);
  out.background = config.flag(kSsd + "add_background_class", true);
  config.expect(kSsd + "explicit_background_class", false, false,
                "the background is added, or there is none");
  config.expect(kExtractor + "use_explicit_padding", false, false, "only SAME padding is");
  config.ignore(kExtractor + "replace_preprocessor_with_placeholder");
  if (config.has(kSsd + "mask_head_config")) config.refuse(kSsd + "mask_head_config", "an SSD has no masks");
  out.input = read_input(config, height, width);
  read_multiple(config, out.input);
  const Hyperparams layers = read_hyperparams(config, kExtractor + "conv_hyperparams");
  out.trunk = read_trunk(config, extractor, layers);
  out.maps = read_maps(config, extractor, layers);
  out.trunk.mobilenet.narrow_top = extractor.pyramid && extractor.variant == 1 && out.maps.depthwise;
  out.heads = read_heads(config);
  // As in the trunk and its pyramid (ops/batch_norm.h).
  if (out.maps.bifpn && out.heads.layers.norm) out.heads.layers.norm->exact_factor = true;
  out.anchors = read_anchors(config);
  out.detect = read_post_processing(config, out.background);
  out.detect.classes = out.classes;
  check_fit(config, out);
  out.description = describe(extractor, out);
  return out;
}

}  // namespace osprey::tfod
