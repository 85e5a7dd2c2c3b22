#include "arch/efficientdet/keys.h"

#include <algorithm>

namespace osprey::efficientdet {
namespace {

using enum Use;

constexpr Key kKeys[]{
    {"name", "'efficientdet-d1'", kRead},

    {"act_type", "'swish'", kRead},
    {"image_size", "640", kRead},
    {"mean_rgb", "[123.675, 116.28, 103.53]", kRead},
    {"stddev_rgb", "[58.395, 57.12, 57.375]", kRead},

    {"num_classes", "90", kRead},
    {"label_map", "None", kRead, {}, true},
    {"heads", "['object_detection']", kFixed, "only the detection head is supported"},

    {"min_level", "3", kRead},
    {"max_level", "7", kRead},
    {"num_scales", "3", kRead},
    {"aspect_ratios", "[1.0, 2.0, 0.5]", kRead},
    {"anchor_scale", "4.0", kRead},
    {"box_class_repeats", "3", kRead},
    {"fpn_cell_repeats", "3", kRead},
    {"fpn_num_filters", "88", kRead},
    {"separable_conv", "True", kRead},
    {"apply_bn_for_resampling", "True", kRead},
    {"conv_after_downsample", "False", kRead},
    {"conv_bn_act_pattern", "False", kRead},
    {"fpn_name", "None", kRead},
    {"fpn_weight_method", "None", kRead},
    {"fpn_config", "None", kFixed, "only the official feature pyramid is", true},
    {"survival_prob", "None", kRead},
    {"backbone_name", "'efficientnet-b1'", kRead},
    {"backbone_config", "None", kFixed, "only official backbones are", true},
    {"moving_average_decay", "0.9998", kRead},

    {"nms_configs.method", "'gaussian'", kRead},
    {"nms_configs.iou_thresh", "None", kRead},
    {"nms_configs.score_thresh", "0.0", kRead},
    {"nms_configs.sigma", "None", kRead},
    {"nms_configs.max_nms_inputs", "0", kFixed,
     "all anchors take part in the suppression, each with its best class"},
    {"nms_configs.max_output_size", "100", kRead},
    {"nms_configs.pyfunc", "False"},  // of the TensorFlow 1 driver
    // Not among the hyper-parameters: `post_mode` of EfficientDetModel's call.
    {"post_mode", "'global'", kRead},

    {"data_format", "'channels_last'"},  // the same numbers in another order
    {"is_training_bn", "True"},
    {"seg_num_classes", "3"},
    {"tflite_max_detections", "100"},
    {"ckpt_var_scope", "None"},
    {"skip_mismatch", "True"},
    {"use_keras_model", "True"},
    {"grad_checkpoint", "False"},
    {"mixed_precision", "False"},
    {"strategy", "None"},

    {"target_size", "None"},
    {"input_rand_hflip", "True"},
    {"jitter_min", "0.1"},
    {"jitter_max", "2.0"},
    {"train_scale_min", "0.1"},
    {"train_scale_max", "2.0"},
    {"autoaugment_policy", "None"},
    {"use_augmix", "False"},
    {"augmix_params", "[3, -1, 1]"},
    {"grid_mask", "False"},
    {"scale_range", "False"},
    {"sample_image", "None"},
    {"map_freq", "5"},
    {"skip_crowd_during_training", "True"},
    {"max_instances_per_image", "100"},
    {"regenerate_source_id", "False"},
    {"dataset_type", "None"},
    {"drop_remainder", "True"},

    {"momentum", "0.9"},
    {"optimizer", "'sgd'"},
    {"learning_rate", "0.08"},
    {"lr_warmup_init", "0.008"},
    {"lr_warmup_epoch", "1.0"},
    {"first_lr_drop_epoch", "200.0"},
    {"second_lr_drop_epoch", "250.0"},
    {"lr_decay_method", "'cosine'"},
    {"poly_lr_power", "0.9"},
    {"clip_gradients_norm", "10.0"},
    {"num_epochs", "300"},
    {"label_smoothing", "0.0"},
    {"alpha", "0.25"},
    {"gamma", "1.5"},
    {"delta", "0.1"},
    {"box_loss_weight", "50.0"},
    {"iou_loss_type", "None"},
    {"iou_loss_weight", "1.0"},
    {"weight_decay", "0.00004"},
    {"loss_scale", "None"},
    {"positives_momentum", "None"},
    {"var_freeze_expr", "None"},
    {"img_summary_steps", "None"},
    {"verbose", "1"},
    {"save_freq", "'epoch'"},
    {"each_epoch_in_separate_process", "False"},
    {"resnet_depth", "50"},

    // What the training programs write beside them into the model's config.yaml.
    {"model_name", "''"},
    {"model_dir", "''"},
    {"profile", "False"},
    {"mode", "'train'"},
    {"debug", "False"},
    {"batch_size", "64"},
    {"num_shards", "None"},
    {"steps_per_epoch", "None"},
    {"steps_per_execution", "1"},
    {"iterations_per_loop", "100"},
    {"num_examples_per_epoch", "120000"},
    {"eval_samples", "5000"},
    {"tf_random_seed", "None"},
    {"val_json_file", "None"},
    {"testdev_dir", "None"},
    {"backbone_ckpt", "''"},
    {"ckpt", "None"},
    {"use_tpu", "None"},
    {"device", "None", kUnused, {}, true},
};

constexpr KeyTable kTable{"EfficientDet", kKeys};

using Changes = std::vector<std::pair<std::string_view, std::string_view>>;

Changes operator+(Changes a, const Changes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

const Changes kSum{{"fpn_weight_method", "'sum'"}};
const Changes kLite = kSum + Changes{{"act_type", "'relu6'"}, {"mean_rgb", "127.0"}, {"stddev_rgb", "128.0"}};
const Changes kSmallAnchors{{"anchor_scale", "3.0"}};

// What every member sets.
Changes scaled(std::string_view backbone, std::string_view size, std::string_view filters,
               std::string_view cells, std::string_view repeats) {
  return {{"backbone_name", backbone},
          {"image_size", size},
          {"fpn_num_filters", filters},
          {"fpn_cell_repeats", cells},
          {"box_class_repeats", repeats}};
}

}  // namespace

const KeyTable& keys() { return kTable; }

const std::vector<Member>& members() {
  static const std::vector<Member> list{
      {"efficientdet-d0", "EfficientDet-D0 512", scaled("efficientnet-b0", "512", "64", "3", "3")},
      {"efficientdet-d1", "EfficientDet-D1 640", scaled("efficientnet-b1", "640", "88", "4", "3")},
      {"efficientdet-d2", "EfficientDet-D2 768", scaled("efficientnet-b2", "768", "112", "5", "3")},
      {"efficientdet-d3", "EfficientDet-D3 896", scaled("efficientnet-b3", "896", "160", "6", "4")},
      {"efficientdet-d4", "EfficientDet-D4 1024", scaled("efficientnet-b4", "1024", "224", "7", "4")},
      {"efficientdet-d5", "EfficientDet-D5 1280", scaled("efficientnet-b5", "1280", "288", "7", "4")},
      {"efficientdet-d6", "EfficientDet-D6 1280", scaled("efficientnet-b6", "1280", "384", "8", "5") + kSum},
      {"efficientdet-d7", "EfficientDet-D7 1536",
       scaled("efficientnet-b6", "1536", "384", "8", "5") + kSum + Changes{{"anchor_scale", "5.0"}}},
      {"efficientdet-d7x", "EfficientDet-D7x 1536",
       scaled("efficientnet-b7", "1536", "384", "8", "5") + kSum + Changes{{"max_level", "8"}}},
      {"efficientdet-lite0", "EfficientDet-Lite0 320",
       scaled("efficientnet-lite0", "320", "64", "3", "3") + kLite + kSmallAnchors},
      {"efficientdet-lite1", "EfficientDet-Lite1 384",
       scaled("efficientnet-lite1", "384", "88", "4", "3") + kLite + kSmallAnchors},
      {"efficientdet-lite2", "EfficientDet-Lite2 448",
       scaled("efficientnet-lite2", "448", "112", "5", "3") + kLite + kSmallAnchors},
      {"efficientdet-lite3", "EfficientDet-Lite3 512",
       scaled("efficientnet-lite3", "512", "160", "6", "4") + kLite},
      {"efficientdet-lite3x", "EfficientDet-Lite3x 640",
       scaled("efficientnet-lite3", "640", "200", "6", "4") + kLite + kSmallAnchors},
      {"efficientdet-lite4", "EfficientDet-Lite4 640",
       scaled("efficientnet-lite4", "640", "224", "7", "4") + kLite},
  };
  return list;
}

const Member* find_member(std::string_view name) {
  for (const std::string_view extension : {".yaml", ".yml"})
    if (name.ends_with(extension)) name.remove_suffix(extension.size());
  const auto it =
      std::find_if(members().begin(), members().end(), [&](const Member& m) { return m.name == name; });
  return it == members().end() ? nullptr : &*it;
}

ConfigTree changes_of(const Member& member) {
  ConfigTree tree;
  tree.kind = ConfigTree::Kind::kMap;
  set_by_path(tree, "name", member.name);
  for (const auto& [key, value] : member.changes) keys().set(tree, key, value);
  return tree;
}

}  // namespace osprey::efficientdet
