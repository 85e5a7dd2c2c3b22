// Every official model of TensorFlow's Object Detection API, built from a checkpoint of zeros with just the
// weights that it asks for; then changed as fine-tuned models are.
#include "arch/tfod/zoo.h"

#include <algorithm>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "arch/family/tf_weights.h"
#include "arch/testing.h"
#include "arch/tfod/checkpoint.h"
#include "graph/graph.h"

namespace osprey {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

using Changes = std::vector<std::pair<std::string, std::string>>;

constexpr const char* kFpnLite = "ssd_mobilenet_v2_fpnlite_320x320_coco17_tpu-8";
constexpr const char* kSsd300 = "ssd_mobilenet_v2_320x320_coco17_tpu-8";
constexpr const char* kRetina = "ssd_resnet50_v1_fpn_640x640_coco17_tpu-8";
constexpr const char* kEfficientDet = "efficientdet_d0_coco17_tpu-32";
constexpr const char* kCenterNet = "centernet_hg104_512x512_coco17_tpu-8";
constexpr const char* kCenterResNet = "centernet_resnet50_v1_fpn_512x512_coco17_tpu-8";
constexpr const char* kFaster = "faster_rcnn_resnet50_v1_640x640_coco17_tpu-8";
constexpr const char* kMask = "mask_rcnn_inception_resnet_v2_1024x1024_coco17_gpu-8";

const Family& tfod() {
  for (const Family& family : families())
    if (family.name == "tfod") return family;
  throw std::logic_error("no family tfod");
}

// As TensorFlow lays it out.
Shape to_tf(const Shape& s, TfLayout layout) {
  switch (layout) {
    case TfLayout::kConv:
      return {s[2], s[3], s[1], s[0]};
    case TfLayout::kDepthwise:
      return {s[2], s[3], s[0], s[1]};
    case TfLayout::kDense:
      return {s[1], s[0]};
    case TfLayout::kAsIs:
      break;
  }
  return s;
}

Model build(ImportRequest request) {
  request.source = "zeros";
  request.checkpoint.tensors = zeros_for(error_of([&] { tfod().build(request); }));
  for (NamedTensor& tensor : request.checkpoint.tensors) {
    tensor.shape = to_tf(tensor.shape, tf_layout(tensor.name, tensor.shape.size()));
    tensor.load = [shape = tensor.shape] { return Tensor::zeros(DType::kF32, shape); };
  }
  return tfod().build(request);
}

Model zeros(const std::string& config, Changes changes = {}) {
  return build({.config = config, .overrides = std::move(changes)});
}

std::string text_of(const std::string& config, Changes changes = {}) {
  return to_text(zeros(config, std::move(changes)).graph);
}

std::string refusal(const std::string& config, const std::string& key, const std::string& value) {
  return error_of([&] { zeros(config, {{key, value}}); });
}

std::string type_of(const Model& m, const std::string& name) {
  const ValueId id = m.graph.find(name);
  return id == kNoValue ? "no " + name : to_string(m.graph.value(id).type);
}

class TfodZoo : public testing::TestWithParam<std::pair<std::string, std::string>> {};

TEST_P(TfodZoo, BuildsCompletely) {
  const Model model = zeros(GetParam().first);
  EXPECT_THAT(model.weights.missing, IsEmpty());
  EXPECT_THAT(model.weights.unused, IsEmpty());
  EXPECT_NE(model.graph.find("det_boxes"), kNoValue);
  EXPECT_EQ(model.graph.find("mask_runs") != kNoValue, GetParam().first.starts_with("mask"));
  EXPECT_THAT(model.categories, SizeIs(90));
  EXPECT_EQ(model.categories.at(17).name, "dog");
}

std::string test_name(const testing::TestParamInfo<TfodZoo::ParamType>& member) {
  std::string name = member.param.first;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, TfodZoo, testing::ValuesIn(tfod().zoo()), test_name);

// The 22 rows of the sample, EfficientDet D0 to D7, and CenterNets.
TEST(TfodTable, HasItsRows) { EXPECT_THAT(tfod().zoo(), SizeIs(22 + 8 + 4)); }

// A config that spells out what the API's schema has as a default means the same.
TEST(TfodConfig, DefaultsMayBeSpeltOut) {
  const auto same = [](const char* config, const std::string& at, const Changes& defaults) {
    Changes all;
    for (const auto& [key, value] : defaults) all.emplace_back(at + key, value);
    EXPECT_EQ(text_of(config, all), text_of(config)) << config;
  };
  const Changes post{{"batch_non_max_suppression.use_static_shapes", "false"},
                     {"batch_non_max_suppression.use_class_agnostic_nms", "false"},
                     {"batch_non_max_suppression.max_classes_per_detection", "1"},
                     {"batch_non_max_suppression.soft_nms_sigma", "0.0"},
                     {"batch_non_max_suppression.use_partitioned_nms", "false"},
                     {"batch_non_max_suppression.use_combined_nms", "false"},
                     {"batch_non_max_suppression.change_coordinate_frame", "true"},
                     {"batch_non_max_suppression.use_hard_nms", "false"},
                     {"batch_non_max_suppression.use_cpu_nms", "false"},
                     {"logit_scale", "1.0"}};
  for (const char* config : {kFpnLite, kSsd300, kRetina}) {
    same(config, "model.ssd.post_processing.", post);
    same(config, "model.ssd.",
         {{"negative_class_weight", "1.0"},
          {"normalize_loss_by_num_matches", "true"},
          {"normalize_loc_loss_by_codesize", "false"},
          {"freeze_batchnorm", "false"},
          {"inplace_batchnorm_update", "false"},
          {"add_background_class", "true"},
          {"explicit_background_class", "false"},
          {"use_confidences_as_targets", "false"},
          {"implicit_example_weight", "1.0"},
          {"return_raw_detections_during_predict", "false"},
          {"image_resizer.fixed_shape_resizer.resize_method", "BILINEAR"},
          {"image_resizer.fixed_shape_resizer.convert_to_grayscale", "false"},
          {"feature_extractor.pad_to_multiple", "1"},
          {"feature_extractor.use_explicit_padding", "false"},
          {"feature_extractor.replace_preprocessor_with_placeholder", "false"},
          {"feature_extractor.num_layers", "6"},
          {"feature_extractor.conv_hyperparams.op", "CONV"},
          {"feature_extractor.conv_hyperparams.regularize_depthwise", "false"},
          {"feature_extractor.conv_hyperparams.force_use_bias", "false"},
          {"feature_extractor.conv_hyperparams.batch_norm.decay", "0.999"},
          {"feature_extractor.conv_hyperparams.batch_norm.train", "true"}});
  }
  same(kSsd300, "model.ssd.box_predictor.convolutional_box_predictor.",
       {{"min_depth", "0"},
        {"max_depth", "0"},
        {"num_layers_before_predictor", "0"},
        {"dropout_keep_probability", "0.8"},
        {"box_code_size", "4"},
        {"apply_sigmoid_to_scores", "false"},
        {"class_prediction_bias_init", "0.0"},
        {"use_depthwise", "false"}});
  same(kRetina, "model.ssd.box_predictor.weight_shared_convolutional_box_predictor.",
       {{"apply_conv_hyperparams_to_heads", "false"},
        {"apply_conv_hyperparams_pointwise", "false"},
        {"box_code_size", "4"},
        {"use_dropout", "false"},
        {"dropout_keep_probability", "0.8"},
        {"share_prediction_tower", "false"},
        {"use_depthwise", "false"},
        {"score_converter", "IDENTITY"}});
  same(kSsd300, "model.ssd.anchor_generator.ssd_anchor_generator.",
       {{"interpolated_scale_aspect_ratio", "1.0"},
        {"reduce_boxes_in_lowest_layer", "true"},
        {"base_anchor_height", "1.0"},
        {"base_anchor_width", "1.0"}});
  same(kRetina, "model.ssd.anchor_generator.multiscale_anchor_generator.",
       {{"normalize_coordinates", "true"}});
  const std::string frcnn = "model.faster_rcnn.";
  for (const char* config : {kFaster, kMask}) {
    same(config, frcnn + "second_stage_post_processing.", post);
    same(config, frcnn,
         {{"feature_extractor.first_stage_features_stride", "16"},
          {"feature_extractor.batch_norm_trainable", "true"},
          {"feature_extractor.override_base_feature_extractor_hyperparams", "false"},
          {"feature_extractor.pad_to_multiple", "32"},
          {"first_stage_anchor_generator.grid_anchor_generator.height", "256"},
          {"first_stage_anchor_generator.grid_anchor_generator.width", "256"},
          {"first_stage_anchor_generator.grid_anchor_generator.height_offset", "0"},
          {"first_stage_anchor_generator.grid_anchor_generator.width_offset", "0"},
          {"first_stage_atrous_rate", "1"},
          {"first_stage_box_predictor_kernel_size", "3"},
          {"first_stage_box_predictor_depth", "512"},
          {"first_stage_box_predictor_conv_hyperparams.activation", "RELU"},
          {"first_stage_minibatch_size", "256"},
          {"first_stage_positive_balance_fraction", "0.5"},
          {"first_stage_localization_loss_weight", "2.0"},
          {"first_stage_objectness_loss_weight", "1.0"},
          {"second_stage_batch_size", "64"},
          {"second_stage_balance_fraction", "0.25"},
          {"second_stage_localization_loss_weight", "2.0"},
          {"second_stage_classification_loss_weight", "1.0"},
          {"second_stage_mask_prediction_loss_weight", "1.0"},
          {"inplace_batchnorm_update", "false"},
          {"clip_anchors_to_image", "true"},
          {"use_matmul_gather_in_matcher", "true"},
          {"use_static_balanced_label_sampler", "true"},
          {"use_static_shapes", "true"},
          {"use_static_shapes_for_eval", "false"},
          {"resize_masks", "false"},
          {"use_partitioned_nms_in_first_stage", "true"},
          {"use_combined_nms_in_first_stage", "false"},
          {"return_raw_detections_during_predict", "false"},
          {"output_final_box_features", "false"},
          {"output_final_box_rpn_features", "false"},
          {"second_stage_box_predictor.mask_rcnn_box_predictor.use_dropout", "false"},
          {"second_stage_box_predictor.mask_rcnn_box_predictor.dropout_keep_probability", "0.5"},
          {"second_stage_box_predictor.mask_rcnn_box_predictor.box_code_size", "4"},
          {"second_stage_box_predictor.mask_rcnn_box_predictor.predict_keypoints", "false"},
          {"second_stage_box_predictor.mask_rcnn_box_predictor.masks_are_class_agnostic", "false"},
          {"second_stage_box_predictor.mask_rcnn_box_predictor.convolve_then_upsample_masks", "false"}});
  }
}

// What fine-tuned models change, and where it shows.
TEST(TfodSsdConfig, ClassesAndAnchors) {
  const Model few = zeros(kFpnLite, {{"model.ssd.num_classes", "3"}});
  EXPECT_EQ(type_of(few, "class_predictions_with_background_0"), "f32[N,24,40,40]");
  EXPECT_THAT(few.categories, SizeIs(3));
  EXPECT_EQ(type_of(zeros(kFpnLite, {{"model.ssd.add_background_class", "false"}}),
                    "class_predictions_with_background_0"),
            "f32[N,540,40,40]");
  const std::string at = "model.ssd.anchor_generator.multiscale_anchor_generator.";
  EXPECT_EQ(type_of(zeros(kFpnLite,
                          {{at + "scales_per_octave", "3"}, {at + "aspect_ratios", "[1.0, 2.0, 0.5, 3.0]"}}),
                    "box_encodings_4"),
            "f32[N,48,3,3]");
  EXPECT_NE(text_of(kFpnLite, {{at + "anchor_scale", "3.0"}}), text_of(kFpnLite));
  EXPECT_THAT(refusal(kFpnLite, at + "max_level", "6"),
              HasSubstr("anchors for 4 feature maps, but there are 5"));
  EXPECT_THAT(refusal(kFpnLite, "model.ssd.anchor_generator", "{'grid_anchor_generator': {'height': 3}}"),
              HasSubstr("model.ssd.anchor_generator"));
  const std::string of_map = "model.ssd.anchor_generator.ssd_anchor_generator.";
  const Model plain = zeros(kSsd300, {{of_map + "reduce_boxes_in_lowest_layer", "false"}});
  EXPECT_EQ(type_of(plain, "box_encodings_0"), "f32[N,24,19,19]");
  EXPECT_NE(text_of(kSsd300, {{of_map + "min_scale", "0.1"}}), text_of(kSsd300));
  EXPECT_NE(text_of(kSsd300, {{of_map + "scales", "[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]"}}), text_of(kSsd300));
}

TEST(TfodSsdConfig, WidthsAndLevels) {
  const std::string at = "model.ssd.feature_extractor.";
  const Model narrow = zeros(kFpnLite, {{at + "depth_multiplier", "0.5"}, {at + "min_depth", "8"}});
  EXPECT_EQ(type_of(narrow, "feature_maps_0"), "f32[N,64,40,40]");
  EXPECT_EQ(type_of(narrow, "model/_feature_extractor/classification_backbone/Conv1/kernel"),
            "f32[16,3,3,3]");
  EXPECT_EQ(type_of(zeros(kRetina, {{at + "fpn.additional_layer_depth", "128"}}), "feature_maps_4"),
            "f32[N,128,5,5]");
  const Model upper =
      zeros(kRetina, {{at + "fpn.min_level", "4"},
                      {"model.ssd.anchor_generator.multiscale_anchor_generator.min_level", "4"}});
  EXPECT_EQ(type_of(upper, "feature_maps_0"), "f32[N,256,40,40]");
  EXPECT_EQ(type_of(upper, "feature_maps_4"), "no feature_maps_4");
  EXPECT_NE(text_of(kRetina, {{at + "override_base_feature_extractor_hyperparams", "false"}}),
            text_of(kRetina));
  EXPECT_NE(text_of(kRetina, {{at + "conv_hyperparams.batch_norm.epsilon", "0.01"}}), text_of(kRetina));
  EXPECT_THAT(refusal(kRetina, at + "use_explicit_padding", "true"), HasSubstr("use_explicit_padding"));
  EXPECT_THAT(refusal(kRetina, at + "type", "ssd_inception_v2"), HasSubstr("ssd_resnet152_v1_fpn_keras"));
  EXPECT_THAT(refusal(kRetina, at + "strange", "1"), HasSubstr("strange"));
}

TEST(TfodSsdConfig, Heads) {
  const std::string shared = "model.ssd.box_predictor.weight_shared_convolutional_box_predictor.";
  const std::string lite = text_of(kFpnLite);
  EXPECT_NE(text_of(kFpnLite, {{shared + "num_layers_before_predictor", "2"}}), lite);
  EXPECT_NE(text_of(kFpnLite, {{shared + "share_prediction_tower", "false"}}), lite);
  EXPECT_NE(text_of(kFpnLite, {{shared + "kernel_size", "5"}}), lite);
  EXPECT_THAT(text_of(kFpnLite, {{shared + "use_dropout", "true"}}), HasSubstr("_class_predictor_layers/1/"));
  EXPECT_THAT(text_of(kRetina, {{shared + "conv_hyperparams.force_use_bias", "true"}}),
              HasSubstr("BoxPredictionTower/0/bias"));
  EXPECT_THAT(refusal(kRetina, shared + "box_encodings_clip_range", "{'min': -1, 'max': 1}"),
              HasSubstr("box_encodings_clip_range"));
  EXPECT_THAT(refusal(kRetina, shared + "score_converter", "SIGMOID"), HasSubstr("score_converter"));
  const std::string separate = "model.ssd.box_predictor.convolutional_box_predictor.";
  EXPECT_THAT(text_of(kSsd300, {{separate + "use_dropout", "true"}}),
              HasSubstr("_class_predictor_layers/1/"));
  EXPECT_THAT(
      text_of(kSsd300, {{separate + "num_layers_before_predictor", "2"}, {separate + "max_depth", "64"}}),
      HasSubstr("_shared_nets/5/3/kernel: f32[64,64,1,1]"));
  EXPECT_THAT(text_of(kSsd300, {{separate + "use_depthwise", "true"}, {separate + "kernel_size", "3"}}),
              HasSubstr("box_encodings/0/_box_encoder_layers/3/kernel"));
  // One predictor over maps of different widths would project them first.
  EXPECT_THAT(refusal(kSsd300, "model.ssd.box_predictor",
                      "{'weight_shared_convolutional_box_predictor': {'depth': 64, "
                      "'num_layers_before_predictor': 1}}"),
              HasSubstr("576 and 1280 channels"));
}

TEST(TfodSsdConfig, PostProcessing) {
  const std::string at = "model.ssd.post_processing.", nms = at + "batch_non_max_suppression.";
  const std::string text = text_of(kRetina, {{nms + "score_threshold", "0.25"},
                                             {nms + "iou_threshold", "0.45"},
                                             {nms + "max_detections_per_class", "20"},
                                             {nms + "max_total_detections", "50"},
                                             {nms + "soft_nms_sigma", "0.5"},
                                             {"model.ssd.box_coder.faster_rcnn_box_coder.y_scale", "8.0"}});
  for (const char* part : {"threshold=0.25", "iou=0.45", "max_per_class=20", "max_detections=50",
                           "soft_sigma=0.5", "weights=[10.0, 8.0, 5.0, 5.0]"})
    EXPECT_THAT(text, HasSubstr(part));
  EXPECT_THAT(text_of(kRetina, {{nms + "soft_nms_sigma", "0.5"}, {nms + "use_hard_nms", "true"}}),
              Not(HasSubstr("soft_sigma")));
  EXPECT_THAT(text_of(kRetina, {{nms + "use_class_agnostic_nms", "true"}}), HasSubstr("agnostic=true"));
  const std::pair<const char*, const char*> others[]{
      {"score_converter", "SOFTMAX"},
      {"score_converter", "IDENTITY"},
      {"logit_scale", "2.0"},
      {"calibration_config", "{'a': 1}"},
      {"batch_non_max_suppression.use_combined_nms", "true"},
      {"batch_non_max_suppression.use_partitioned_nms", "true"},
      {"batch_non_max_suppression.iou_threshold", "1.5"}};
  for (const auto& [key, value] : others)
    EXPECT_THAT(refusal(kRetina, at + key, value), HasSubstr(at + key)) << value;
}

constexpr const char* kKeepAspect =
    "{'keep_aspect_ratio_resizer': {'min_dimension': 512, 'max_dimension': 1024, 'pad_to_max_dimension': "
    "True}}";
constexpr const char* kUnpadded =
    "{'keep_aspect_ratio_resizer': {'min_dimension': 512, 'max_dimension': 1024}}";

TEST(TfodSsdConfig, Resizers) {
  const std::string at = "model.ssd.image_resizer";
  EXPECT_EQ(type_of(zeros(kRetina, {{at + ".fixed_shape_resizer.height", "384"}}), "feature_maps_0"),
            "f32[N,256,48,80]");
  EXPECT_EQ(type_of(zeros(kRetina, {{at, kKeepAspect}}), "preprocessed"), "f32[N,3,1024,1024]");
  // Without padding, extents have to be made multiples of the pyramid's.
  EXPECT_THAT(refusal(kRetina, at, kUnpadded), HasSubstr("multiples of 32"));
  const Model dynamic =
      zeros(kRetina, {{at, kUnpadded}, {"model.ssd.feature_extractor.pad_to_multiple", "32"}});
  EXPECT_EQ(type_of(dynamic, "preprocessed"), "f32[N,3,32*h,32*w]");
  EXPECT_THAT(refusal(kRetina, at + ".fixed_shape_resizer.height", "500"), HasSubstr("multiples of 32"));
  EXPECT_THAT(refusal(kRetina, at + ".fixed_shape_resizer.resize_method", "AREA"),
              HasSubstr("resize_method"));
  EXPECT_THAT(refusal(kRetina, at + ".fixed_shape_resizer.convert_to_grayscale", "true"),
              HasSubstr("convert_to_grayscale"));
  EXPECT_THAT(refusal(kRetina, at, "{'identity_resizer': {}}"), HasSubstr("keep_aspect_ratio_resizer"));
}

TEST(TfodSsdConfig, SizesOfAUser) {
  const auto sized = [](const char* config, int height, int width, Changes changes = {}) {
    return build({.config = config, .overrides = std::move(changes), .height = height, .width = width});
  };
  EXPECT_EQ(type_of(sized(kSsd300, 256, 512), "preprocessed"), "f32[N,3,256,512]");
  EXPECT_EQ(type_of(sized(kFpnLite, 640, 384), "feature_maps_0"), "f32[N,128,80,48]");
  EXPECT_THAT(error_of([&] { sized(kFpnLite, 500, 500); }), HasSubstr("multiples of 32"));
  const Changes keep{{"model.ssd.image_resizer", kKeepAspect}};
  EXPECT_EQ(type_of(sized(kFpnLite, 640, 640, keep), "preprocessed"), "f32[N,3,640,640]");
  EXPECT_THAT(error_of([&] { sized(kFpnLite, 640, 320, keep); }), HasSubstr("only a square is"));
}

TEST(TfodEfficientDetConfig, Pyramid) {
  const std::string at = "model.ssd.feature_extractor.", bifpn = at + "bifpn.";
  const std::string stage = "model/_feature_extractor/_bifpn_stage/";
  const Model plain = zeros(kEfficientDet);
  EXPECT_EQ(type_of(plain, "feature_maps_0"), "f32[N,64,64,64]");
  EXPECT_EQ(type_of(plain, "feature_maps_4"), "f32[N,64,4,4]");
  EXPECT_EQ(type_of(plain, "class_predictions_with_background_0"), "f32[N,810,64,64]");
  // Nodes 0 and 1 are the levels that the trunk does not reach; the trunk's maps are projected by each node
  // that fuses them.
  const std::string text = to_text(plain.graph);
  for (const char* weight : {"node_input_blocks/0/0/1/0/bias", "node_input_blocks/3/0/1/1/gamma",
                             "node_input_blocks/7/0/1/0/kernel", "node_combine_op/9/bifpn_combine_weights/1",
                             "node_post_combine_block/25/1/pointwise_kernel"})
    EXPECT_THAT(text, HasSubstr(stage + weight));
  for (const char* weight : {"node_input_blocks/1/", "node_input_blocks/8/", "node_post_combine_block/26/"})
    EXPECT_THAT(text, Not(HasSubstr(stage + weight + "0/1/0/kernel")));
  EXPECT_THAT(text_of(kEfficientDet, {{bifpn + "combine_method", "sum"}}),
              Not(HasSubstr("bifpn_combine_weights")));
  EXPECT_THAT(text_of(kEfficientDet, {{bifpn + "num_iterations", "4"}}),
              HasSubstr(stage + "node_post_combine_block/33/"));
  // As wide as a level of the trunk: projected all the same.
  EXPECT_THAT(text_of(kEfficientDet, {{bifpn + "num_filters", "40"}}),
              HasSubstr(stage + "node_input_blocks/5/0/1/0/kernel"));
  EXPECT_THAT(refusal(kEfficientDet, bifpn + "combine_method", "attention"), HasSubstr("combine_method"));
  EXPECT_THAT(refusal(kEfficientDet, at + "depth_multiplier", "0.5"), HasSubstr("depth_multiplier"));
  EXPECT_THAT(refusal(kEfficientDet, at + "use_depthwise", "true"), HasSubstr("use_depthwise"));
  const std::string resizer = "model.ssd.image_resizer.keep_aspect_ratio_resizer.";
  EXPECT_THAT(refusal(kEfficientDet, resizer + "pad_to_max_dimension", "false"), HasSubstr("fixed input"));
  EXPECT_THAT(
      error_of([&] {
        zeros(kEfficientDet, {{resizer + "min_dimension", "576"}, {resizer + "max_dimension", "576"}});
      }),
      HasSubstr("multiples of 128"));
}

// Levels are those of B0's blocks, however many a deeper trunk has.
TEST(TfodEfficientDetConfig, Trunk) {
  const std::string trunk = "model/_feature_extractor/_efficientnet/";
  const Model d7 = zeros("efficientdet_d7_coco17_tpu-32");
  EXPECT_EQ(type_of(d7, "backbone_level3"), "f32[N,72,192,192]");
  EXPECT_EQ(type_of(d7, "backbone_level5"), "f32[N,576,48,48]");
  const std::string text = to_text(d7.graph);
  EXPECT_THAT(text, HasSubstr(trunk + "stack_6/block_0/project_bn/gamma"));
  EXPECT_THAT(text, Not(HasSubstr(trunk + "stack_6/block_1/")));
  const auto reads = [&](const std::string& layer) {
    const ValueId level = d7.graph.find("backbone_level3");
    for (const Node& node : d7.graph.nodes())
      for (const ValueId output : node.outputs)
        if (output == level) return node.name.starts_with(trunk + layer);
    return false;
  };
  EXPECT_TRUE(reads("stack_2/block_1/")) << "of 6 blocks";
}

// What TensorFlow's checkpoints have of an EfficientDet, in the layouts of our ops.
TEST(TfodEfficientDetCheckpoint, NamesAndLayouts) {
  const auto tensor = [](std::string name, std::string full_name, Shape shape) {
    std::vector<float> values(static_cast<std::size_t>(element_count(shape)));
    std::iota(values.begin(), values.end(), 0.f);
    return NamedTensor{.name = "model/_feature_extractor/" + name + "/.ATTRIBUTES/VARIABLE_VALUE",
                       .shape = shape,
                       .load = [values, shape] { return Tensor::from<float>(values, shape); },
                       .full_name = std::move(full_name)};
  };
  Checkpoint checkpoint;
  checkpoint.tensors = {
      tensor("_efficientnet/layer_with_weights-4/kernel", "stack_0/block_0/se_reduce_conv2d/kernel",
             {1, 1, 3, 2}),
      tensor("_efficientnet/layer_with_weights-9/depthwise_kernel",
             "stack_1/block_0/depthwise_conv2d/depthwise_kernel", {3, 3, 4, 1}),
      tensor("_bifpn_stage/node_combine_op/5/bifpn_combine_weights",
             "EfficientDet-D0/bifpn/node_05/1_dn_lvl_3/combine/bifpn_combine_weights", {3, 1})};
  const auto found = tfod::model_tensors(checkpoint);
  ASSERT_THAT(found, SizeIs(5));
  const std::string at = "model/_feature_extractor/";
  EXPECT_EQ(found[0].name, at + "_efficientnet/stack_0/block_0/se_reduce_conv2d/kernel");
  EXPECT_EQ(found[0].shape, (Shape{2, 3}));
  EXPECT_THAT(found[0].load().values<float>(), testing::ElementsAre(0, 2, 4, 1, 3, 5));
  EXPECT_EQ(found[1].name, at + "_efficientnet/stack_1/block_0/depthwise_conv2d/depthwise_kernel");
  EXPECT_EQ(found[1].shape, (Shape{4, 1, 3, 3}));
  EXPECT_EQ(found[4].name, at + "_bifpn_stage/node_combine_op/5/bifpn_combine_weights/2");
  EXPECT_EQ(found[4].shape, Shape{});
  EXPECT_EQ(found[4].load().values<float>()[0], 2);
  checkpoint.tensors[2].shape = {3, 2};
  EXPECT_THAT(error_of([&] { tfod::model_tensors(checkpoint); }), HasSubstr("expected [n, 1]"));
}

TEST(TfodCenterNetConfig, HeadsAndQueries) {
  const std::string at = "model.center_net.", centers = at + "object_center_params.";
  const Model plain = zeros(kCenterNet);
  EXPECT_EQ(type_of(plain, "extracted_features"), "f32[N,256,128,128]");
  EXPECT_EQ(type_of(plain, "object_center"), "f32[N,90,128,128]");
  EXPECT_EQ(type_of(plain, "box_scale"), "f32[N,2,128,128]");
  EXPECT_EQ(type_of(plain, "det_boxes_net"), "f32[<=100*N,5]");
  // The heads of the last stack, whose layers keep their numbers.
  EXPECT_THAT(to_text(plain.graph),
              AllOf(HasSubstr("model/_prediction_head_dict/box.Sscale/1/layer_with_weights-1/bias"),
                    Not(HasSubstr("model/_prediction_head_dict/box.Sscale/0/"))));
  EXPECT_EQ(type_of(zeros(kCenterNet, {{at + "num_classes", "3"}}), "object_center"), "f32[N,3,128,128]");
  EXPECT_EQ(type_of(zeros(kCenterNet, {{centers + "max_box_predictions", "7"}}), "det_boxes_net"),
            "f32[<=7*N,5]");
  EXPECT_THAT(text_of(kCenterNet, {{centers + "peak_max_pool_kernel_size", "5"}}), HasSubstr("peak=5"));
  const Model deeper = zeros(
      kCenterNet, {{centers + "center_head_params", "{'num_filters': [32, 16], 'kernel_sizes': [5, 3]}"}});
  EXPECT_EQ(type_of(deeper, "model/_prediction_head_dict/object_center/1/layer_with_weights-0/kernel"),
            "f32[32,256,5,5]");
  EXPECT_EQ(type_of(deeper, "model/_prediction_head_dict/object_center/1/layer_with_weights-2/kernel"),
            "f32[90,16,1,1]");
  EXPECT_THAT(text_of(kCenterNet, {{at + "use_depthwise", "true"}}),
              HasSubstr("layer_with_weights-0/pointwise_kernel"));
  EXPECT_THAT(
      refusal(kCenterNet, centers + "center_head_params", "{'num_filters': [32], 'kernel_sizes': [5, 3]}"),
      HasSubstr("as many kernel_sizes"));
}

TEST(TfodCenterNetConfig, TrunksAndPixels) {
  const std::string at = "model.center_net.", extractor = at + "feature_extractor.";
  EXPECT_EQ(type_of(zeros(kCenterResNet), "extracted_features"), "f32[N,64,128,128]");
  EXPECT_EQ(type_of(zeros(kCenterNet, {{extractor + "type", "hourglass_52"}}), "extracted_features"),
            "f32[N,128,128,128]");
  EXPECT_THAT(text_of(kCenterNet), AllOf(HasSubstr("bgr=true"), HasSubstr("std=[73.60277")));
  // Keras swaps the channels of a ResNet once more.
  EXPECT_THAT(text_of(kCenterResNet),
              AllOf(HasSubstr("bgr=true"), HasSubstr("mean=[103.939, 116.779, 123.68]")));
  EXPECT_THAT(text_of(kCenterResNet, {{extractor + "bgr_ordering", "true"},
                                      {extractor + "channel_means", "[1.0, 2.0, 3.0]"},
                                      {extractor + "channel_stds", "[2.0, 4.0, 1.0]"}}),
              AllOf(Not(HasSubstr("bgr=")), HasSubstr("mean=[106.939, 469.116, 248.36]"),
                    HasSubstr("std=[1.0, 4.0, 2.0]")));
  EXPECT_THAT(refusal(kCenterNet, extractor + "type", "resnet_v2_50"), HasSubstr("resnet_v1_101_fpn"));
  EXPECT_THAT(refusal(kCenterNet, extractor + "channel_stds", "[1.0, 0.0, 1.0]"), HasSubstr("channel_stds"));
  EXPECT_THAT(refusal(kCenterNet, at + "keypoint_estimation_task", "{'task_name': 'human_pose'}"),
              HasSubstr("only boxes"));
  EXPECT_THAT(refusal(kCenterNet, at + "post_processing", "{'score_converter': 'SIGMOID'}"),
              HasSubstr("without suppression"));
  const std::string resizer = at + "image_resizer.keep_aspect_ratio_resizer.";
  EXPECT_THAT(refusal(kCenterNet, resizer + "pad_to_max_dimension", "false"), HasSubstr("fixed input"));
  EXPECT_THAT(error_of([] { build({.config = kCenterNet, .height = 320, .width = 320}); }),
              HasSubstr("multiples of 128"));
  EXPECT_EQ(type_of(build({.config = kCenterNet, .height = 640, .width = 640}), "box_offset"),
            "f32[N,2,160,160]");
}

TEST(TfodTwoStageConfig, FirstStage) {
  const std::string at = "model.faster_rcnn.",
                    anchors = at + "first_stage_anchor_generator.grid_anchor_generator.";
  const Model other = zeros(kFaster, {{at + "first_stage_box_predictor_depth", "256"},
                                      {at + "first_stage_box_predictor_kernel_size", "1"},
                                      {at + "first_stage_max_proposals", "50"},
                                      {anchors + "scales", "[0.5, 1.0]"},
                                      {anchors + "aspect_ratios", "[0.5, 1.0]"}});
  EXPECT_EQ(type_of(other, "rpn_box_predictor_features"), "f32[N,256,40,40]");
  EXPECT_EQ(type_of(other, "rpn_box_encodings"), "f32[N,16,40,40]");
  EXPECT_EQ(type_of(other, "proposal_boxes"), "f32[<=50*N,5]");
  const std::string plain = text_of(kFaster);
  const std::pair<const char*, const char*> changes[]{
      {"first_stage_atrous_rate", "2"},
      {"first_stage_nms_iou_threshold", "0.5"},
      {"first_stage_nms_score_threshold", "0.1"},
      {"first_stage_anchor_generator.grid_anchor_generator.height", "128"},
      {"first_stage_anchor_generator.grid_anchor_generator.width_stride", "8"},
      {"first_stage_anchor_generator.grid_anchor_generator.height_offset", "8"},
      {"initial_crop_size", "28"},
      {"maxpool_stride", "1"},
      {"use_matmul_crop_and_resize", "false"}};
  for (const auto& [key, value] : changes) EXPECT_NE(text_of(kFaster, {{at + key, value}}), plain) << key;
  // Its activation is ReLU6 whatever is said; a norm is honoured.
  EXPECT_EQ(text_of(kFaster, {{at + "first_stage_box_predictor_conv_hyperparams.activation", "NONE"}}),
            plain);
  EXPECT_THAT(
      text_of(kFaster, {{at + "first_stage_box_predictor_conv_hyperparams.batch_norm", "{'scale': True}"}}),
      HasSubstr("_first_stage_box_predictor_first_conv/RPNBatchNorm/gamma"));
  const std::pair<const char*, const char*> others[]{
      {"feature_extractor.first_stage_features_stride", "8"},
      {"feature_extractor.type", "faster_rcnn_nas"},
      {"feature_extractor.conv_hyperparams", "{'activation': 'RELU'}"},
      {"use_combined_nms_in_first_stage", "true"},
      {"context_config", "{'max_num_context_features': 10}"},
      {"first_stage_anchor_generator.grid_anchor_generator.scales", "[0.0]"}};
  for (const auto& [key, value] : others)
    EXPECT_THAT(refusal(kFaster, at + key, value), HasSubstr(at + key)) << value;
  EXPECT_THAT(
      error_of([&] {
        zeros(kFaster, {{at + "use_static_shapes", "true"}, {at + "use_static_shapes_for_eval", "true"}});
      }),
      HasSubstr("use_static_shapes_for_eval"));
}

TEST(TfodTwoStageConfig, SecondStage) {
  const std::string at = "model.faster_rcnn.",
                    predictor = at + "second_stage_box_predictor.mask_rcnn_box_predictor.",
                    post = at + "second_stage_post_processing.", nms = post + "batch_non_max_suppression.";
  const Model few = zeros(kFaster, {{at + "num_classes", "3"},
                                    {predictor + "share_box_across_classes", "false"},
                                    {nms + "max_total_detections", "20"}});
  EXPECT_EQ(type_of(few, "refined_box_encodings"), "f32[<=300*N,12]");
  EXPECT_EQ(type_of(few, "class_predictions_with_background"), "f32[<=300*N,4]");
  EXPECT_EQ(type_of(few, "det_boxes"), "f32[<=20*N,5]");
  EXPECT_THAT(few.categories, SizeIs(3));
  EXPECT_THAT(text_of(kFaster, {{predictor + "use_dropout", "true"}}),
              HasSubstr("_box_encoder_layers/2/kernel"));
  const std::string plain = text_of(kFaster);
  for (const auto& [key, value] : {std::pair<std::string, const char*>{nms + "score_threshold", "0.3"},
                                   {nms + "iou_threshold", "0.4"},
                                   {nms + "max_detections_per_class", "10"},
                                   {post + "score_converter", "SIGMOID"}})
    EXPECT_NE(text_of(kFaster, {{key, value}}), plain) << key;
  for (const auto& [key, value] : {std::pair<std::string, const char*>{nms + "soft_nms_sigma", "0.5"},
                                   {nms + "use_class_agnostic_nms", "true"},
                                   {nms + "use_static_shapes", "true"},
                                   {post + "score_converter", "IDENTITY"},
                                   {post + "logit_scale", "2.0"},
                                   {post + "calibration_config", "{'a': 1}"},
                                   {predictor + "fc_hyperparams.batch_norm", "{'scale': True}"},
                                   {predictor + "predict_keypoints", "true"},
                                   {predictor + "box_code_size", "7"}})
    EXPECT_THAT(refusal(kFaster, key, value), HasSubstr(key)) << value;
  EXPECT_THAT(refusal(kFaster, at + "second_stage_box_predictor", "{'rfcn_box_predictor': {'depth': 8}}"),
              HasSubstr("second_stage_box_predictor"));
  const Model first = zeros(kFaster, {{at + "number_of_stages", "1"}});
  EXPECT_EQ(type_of(first, "det_boxes"), "f32[<=300*N,5]");
  EXPECT_THAT(first.categories, SizeIs(1));
}

TEST(TfodTwoStageConfig, Masks) {
  const std::string at = "model.faster_rcnn.second_stage_box_predictor.mask_rcnn_box_predictor.";
  const Model plain = zeros(kMask);
  EXPECT_EQ(type_of(plain, "mask_predictions"), "f32[<=100*N,90,33,33]");
  // The second stage runs twice, over the same weights.
  EXPECT_THAT(to_text(plain.graph),
              AllOf(HasSubstr("/conv2d_156_bn/gamma:"), Not(HasSubstr("/conv2d_156_bn/gamma.2"))));
  // Chosen between 1,536 features and the classes, in powers of two.
  const std::string depth =
      "model/_mask_rcnn_box_predictor/_third_stage_heads/mask_predictions/"
      "_mask_predictor_layers/0/kernel";
  EXPECT_EQ(type_of(plain, depth), "f32[256,1536,3,3]");
  EXPECT_EQ(type_of(zeros(kMask, {{"model.faster_rcnn.num_classes", "2"}}), depth), "f32[32,1536,3,3]");
  const Model other = zeros(kMask, {{at + "mask_height", "15"},
                                    {at + "mask_width", "15"},
                                    {at + "mask_prediction_conv_depth", "64"},
                                    {at + "masks_are_class_agnostic", "true"}});
  EXPECT_EQ(type_of(other, "mask_predictions"), "f32[<=100*N,1,15,15]");
  EXPECT_EQ(type_of(other, depth), "f32[64,1536,3,3]");
  EXPECT_THAT(text_of(kMask, {{at + "mask_prediction_num_conv_layers", "2"}}),
              Not(HasSubstr("_mask_predictor_layers/6/kernel")));
  EXPECT_THAT(text_of(kMask, {{at + "conv_hyperparams.batch_norm", "{'scale': True}"}}),
              HasSubstr("_mask_predictor_layers/1/gamma"));
  // Crops of 9x9 are repeated as often as they go into the masks.
  const std::string repeat = at + "convolve_then_upsample_masks";
  EXPECT_EQ(type_of(zeros(kMask, {{repeat, "true"}}), "mask_predictions"), "f32[<=100*N,90,27,27]");
  EXPECT_THAT(error_of([&] {
                zeros(kMask, {{repeat, "true"}, {at + "mask_height", "8"}, {at + "mask_width", "8"}});
              }),
              HasSubstr("by one factor"));
  EXPECT_THAT(refusal(kMask, at + "predict_instance_masks", "false"), HasSubstr("number_of_stages"));
}

TEST(TfodTwoStageConfig, ResizersAndSizesOfAUser) {
  const std::string at = "model.faster_rcnn.image_resizer";
  EXPECT_EQ(type_of(zeros(kFaster, {{at, kUnpadded}}), "preprocessed"), "f32[N,3,h,w]");
  EXPECT_EQ(type_of(zeros(kFaster, {{at, kUnpadded}}), "rpn_features_to_crop"),
            "f32[N,1024,(h+15)/16,(w+15)/16]");
  EXPECT_EQ(type_of(zeros(kFaster, {{at, kKeepAspect}}), "preprocessed"), "f32[N,3,1024,1024]");
  EXPECT_EQ(type_of(zeros(kMask, {{at + ".fixed_shape_resizer.width", "512"}}), "preprocessed"),
            "f32[N,3,1024,512]");
  const auto sized = [](const char* config, int height, int width) {
    return build({.config = config, .height = height, .width = width});
  };
  EXPECT_EQ(type_of(sized(kFaster, 800, 800), "preprocessed"), "f32[N,3,800,800]");
  EXPECT_THAT(error_of([&] { sized(kFaster, 800, 640); }), HasSubstr("only a square is"));
  EXPECT_EQ(type_of(sized(kMask, 512, 768), "preprocessed"), "f32[N,3,512,768]");
}

}  // namespace
}  // namespace osprey
