#include "arch/tfod/two_stage_options.h"

#include <algorithm>
#include <cmath>

namespace osprey::tfod {
namespace {

const std::string kModel = "model.faster_rcnn.";

// More than any detector has; configs are files from outside.
constexpr int kMaxLayers = 64, kMaxBoxes = 1 << 14, kMaxSide = 1 << 14, kMaxBins = 256;
constexpr std::size_t kMaxAnchors = 100;

void read_trunk(Config& config, TwoStage& out) {
  const std::string path = kModel + "feature_extractor";
  const std::string type = config.text(path + ".type", "");
  // The API hands the last two to its pyramids alone.
  for (const char* unused :
       {".batch_norm_trainable", ".pad_to_multiple", ".override_base_feature_extractor_hyperparams"})
    config.ignore(path + unused);
  if (config.integer(path + ".first_stage_features_stride", 16) != 16)
    config.refuse(path + ".first_stage_features_stride", "only 16 is");
  out.inception = type == "faster_rcnn_inception_resnet_v2_keras";
  if (out.inception) {
    out.input.scale = static_cast<float>(2.0 / 255.0);
    out.input.mean = {1, 1, 1};
    return;
  }
  out.input.mean = {123.68f, 116.779f, 103.939f};
  for (const int depth : {50, 101, 152})
    if (type == fmt::format("faster_rcnn_resnet{}_keras", depth)) {
      out.resnet.depth = depth;
      return;
    }
  config.refuse(
      path + ".type",
      "only faster_rcnn_resnet50_keras, faster_rcnn_resnet101_keras, faster_rcnn_resnet152_keras and "
      "faster_rcnn_inception_resnet_v2_keras are");
}

GridAnchors anchor_options(Config& config) {
  const std::string generator = kModel + "first_stage_anchor_generator";
  if (config.alternative(generator) != "grid_anchor_generator")
    config.refuse(generator, "only a grid_anchor_generator is");
  const std::string path = generator + ".grid_anchor_generator.";
  const auto pixels = [&](const char* key, int standard, int least) {
    return config.integer(path + key, standard, least, kMaxSide);
  };
  GridAnchors out{.height = pixels("height", 256, 1),
                  .width = pixels("width", 256, 1),
                  .stride = {pixels("height_stride", 16, 1), pixels("width_stride", 16, 1)},
                  .offset = {pixels("height_offset", 0, 0), pixels("width_offset", 0, 0)},
                  .scales = config.numbers(path + "scales"),
                  .ratios = config.numbers(path + "aspect_ratios")};
  for (const auto& [key, list] : {std::pair("scales", &out.scales), {"aspect_ratios", &out.ratios}}) {
    const bool positive = std::all_of(list->begin(), list->end(), [](float v) { return v > 0; });
    if (list->empty() || list->size() > kMaxAnchors || !positive)
      config.refuse(path + key, fmt::format("1 to {} positive numbers are", kMaxAnchors));
  }
  return out;
}

// Suppression that is not TensorFlow's usual one.
void refuse_other_suppression(Config& config, const std::string& path) {
  for (const char* other : {".use_class_agnostic_nms", ".use_combined_nms", ".use_static_shapes"})
    config.expect(path + other, false, false, "only suppression within each class is");
  if (config.number(path + ".soft_nms_sigma", 0) != 0)
    config.refuse(path + ".soft_nms_sigma", "only 0 (hard suppression) is");
  // Without effect where those are off; frames always change (faster_rcnn_meta_arch.py asks for it).
  for (const char* same : {".max_classes_per_detection", ".use_partitioned_nms", ".use_hard_nms",
                           ".use_cpu_nms", ".change_coordinate_frame"})
    config.ignore(path + same);
}

ProposalStage proposal_options(Config& config) {
  const std::string first = kModel + "first_stage_";
  // The shapes are static in training alone, unless the second field says otherwise.
  if (config.flag(kModel + "use_static_shapes", false))
    config.expect(kModel + "use_static_shapes_for_eval", false, false,
                  "suppression differs in ties between static shapes and others");
  for (const char* unused : {"use_static_shapes_for_eval", "use_partitioned_nms_in_first_stage"})
    config.ignore(kModel + unused);
  config.expect(kModel + "use_combined_nms_in_first_stage", false, false, "only the usual suppression is");
  return {.depth = config.integer(first + "box_predictor_depth", 512, 1),
          .kernel = config.integer(first + "box_predictor_kernel_size", 3, 1, 15),
          .dilation = config.integer(first + "atrous_rate", 1, 1, 64),
          .conv = read_hyperparams(config, first + "box_predictor_conv_hyperparams"),
          .anchors = anchor_options(config),
          .score = config.fraction(first + "nms_score_threshold", 0),
          .iou = config.fraction(first + "nms_iou_threshold", 0.7f),
          .max_proposals = config.integer(first + "max_proposals", 300, 1, kMaxBoxes)};
}

Crops crop_options(Config& config) {
  Crops out{.size = config.integer(kModel + "initial_crop_size", 0, 1, kMaxBins),
            .neighbours = config.flag(kModel + "use_matmul_crop_and_resize", false),
            .pool = config.integer(kModel + "maxpool_kernel_size", 0, 1, kMaxBins),
            .pool_stride = config.integer(kModel + "maxpool_stride", 0, 1, kMaxBins)};
  if (out.pool > out.size) config.refuse(kModel + "maxpool_kernel_size", "crops are smaller");
  return out;
}

void read_scores(Config& config, const std::string& path, BoxStage& out) {
  const std::string kind = config.text(path + ".score_converter", "IDENTITY");
  if (kind == "SIGMOID")
    out.scores = Activation::kSigmoid;
  else if (kind != "SOFTMAX")
    config.refuse(path + ".score_converter", "only SOFTMAX and SIGMOID are");
  if (config.number(path + ".logit_scale", 1) != 1) config.refuse(path + ".logit_scale", "only 1 is");
}

BoxStage box_options(Config& config, const std::string& predictor) {
  for (const char* norm : {"batch_norm", "sync_batch_norm", "group_norm"})
    if (config.has(predictor + "fc_hyperparams." + norm))
      config.refuse(predictor + "fc_hyperparams." + norm, "dense layers have no norms here");
  config.ignore(predictor + "fc_hyperparams");
  config.ignore(predictor + "dropout_keep_probability");
  if (config.integer(predictor + "box_code_size", 4) != 4)
    config.refuse(predictor + "box_code_size", "only 4 is");
  config.expect(predictor + "predict_keypoints", false, false, "the API itself cannot");
  const std::string post = kModel + "second_stage_post_processing";
  const std::string nms = post + ".batch_non_max_suppression";
  refuse_other_suppression(config, nms);
  BoxStage out{.dropout = config.flag(predictor + "use_dropout", false),
               .shared_boxes = config.flag(predictor + "share_box_across_classes", false),
               .score = config.fraction(nms + ".score_threshold", 0),
               .iou = config.fraction(nms + ".iou_threshold", 0.6f),
               .max_per_class = config.integer(nms + ".max_detections_per_class", 100, 1, kMaxBoxes),
               .max_detections = config.integer(nms + ".max_total_detections", 100, 1, kMaxBoxes)};
  read_scores(config, post, out);
  return out;
}

// MaskRCNNMaskHead's own choice: between the channels of the features and the classes, in powers of two.
int automatic_mask_depth(int features, int classes) {
  const double log = (2.0 * std::log2(features) + 3.0 * std::log2(classes)) / 5.0;
  return 1 << static_cast<int>(std::nearbyint(log));
}

MaskStage mask_options(Config& config, const std::string& predictor, const TwoStage& m) {
  const auto number = [&](const char* key, int standard, int least, int most) {
    return config.integer(predictor + key, standard, least, most);
  };
  MaskStage out{.convs = number("mask_prediction_num_conv_layers", 2, 1, kMaxLayers) - 1,
                .depth = number("mask_prediction_conv_depth", 256, 0, kMaxSide),
                .conv = read_hyperparams(config, predictor + "conv_hyperparams"),
                .height = number("mask_height", 15, 1, kMaxBins),
                .width = number("mask_width", 15, 1, kMaxBins),
                .agnostic = config.flag(predictor + "masks_are_class_agnostic", false),
                .convolve_first = config.flag(predictor + "convolve_then_upsample_masks", false)};
  if (out.height != out.width) config.refuse(predictor + "mask_width", "only square masks are");
  if (out.depth == 0) out.depth = automatic_mask_depth(m.inception ? 1536 : 2048, m.classes);
  return out;
}

// What concerns training alone, or outputs that are none of detections.
void pass_over(Config& config) {
  for (const char* field :
       {"first_stage_minibatch_size", "first_stage_positive_balance_fraction",
        "first_stage_localization_loss_weight", "first_stage_objectness_loss_weight",
        "second_stage_batch_size", "second_stage_balance_fraction", "second_stage_localization_loss_weight",
        "second_stage_classification_loss_weight", "second_stage_mask_prediction_loss_weight",
        "second_stage_classification_loss", "hard_example_miner", "inplace_batchnorm_update",
        // Anchors are always clipped outside of training.
        "clip_anchors_to_image", "use_matmul_gather_in_matcher", "use_static_balanced_label_sampler",
        "resize_masks", "return_raw_detections_during_predict", "output_final_box_features",
        "output_final_box_rpn_features"})
    config.ignore(kModel + field);
}

}  // namespace

TwoStage two_stage_options(Config& config, int height, int width) {
  TwoStage out{.input = read_raw_input(config, kModel + "image_resizer", height, width),
               .proposals = proposal_options(config),
               .stages = config.integer(kModel + "number_of_stages", 2, 1, 3),
               .classes = config.integer(kModel + "num_classes", 0, 1)};
  read_trunk(config, out);
  pass_over(config);
  if (out.stages == 1) {
    for (const char* second :
         {"second_stage_box_predictor", "second_stage_post_processing", "initial_crop_size",
          "maxpool_kernel_size", "maxpool_stride", "use_matmul_crop_and_resize"})
      config.ignore(kModel + second);
    return out;
  }
  const std::string box_predictor = kModel + "second_stage_box_predictor";
  if (config.alternative(box_predictor) != "mask_rcnn_box_predictor")
    config.refuse(box_predictor, "only a mask_rcnn_box_predictor is");
  const std::string predictor = box_predictor + ".mask_rcnn_box_predictor.";
  out.crops = crop_options(config);
  out.boxes = box_options(config, predictor);
  const bool predicts_masks = config.flag(predictor + "predict_instance_masks", false);
  if (out.stages == 3 && !predicts_masks)
    config.refuse(kModel + "number_of_stages",
                  "a third stage without predict_instance_masks has nothing to do");
  if (predicts_masks) {
    const MaskStage masks = mask_options(config, predictor, out);
    if (out.stages == 3) out.masks = masks;
  } else {
    for (const char* field :
         {"conv_hyperparams", "mask_prediction_conv_depth", "mask_height", "mask_width",
          "mask_prediction_num_conv_layers", "masks_are_class_agnostic", "convolve_then_upsample_masks"})
      config.ignore(predictor + field);
  }
  return out;
}

std::string describe(const TwoStage& m) {
  const RawInput& in = m.input;
  const std::string trunk = m.inception ? "Inception-ResNet v2" : fmt::format("ResNet-{} v1", m.resnet.depth);
  const std::string size = in.canvas_height > 0 ? fmt::format("{}x{}", in.canvas_height, in.canvas_width)
                                                : fmt::format("{} to {}", in.shortest, in.longest);
  const char* name = m.stages == 1 ? "Region proposals" : m.masks ? "Mask R-CNN" : "Faster R-CNN";
  return fmt::format("{}, {}, {}", name, trunk, size);
}

}  // namespace osprey::tfod
