// The table of official models (tf2_detection_zoo.md): facts for inference only, so schedules, augmentation,
// losses and initialisers are absent.
#include <array>

#include <fmt/format.h>

#include "arch/tfod/zoo.h"

namespace osprey::tfod {
namespace {

// What all SSD models of the zoo have in common.
constexpr std::string_view kSsd = R"(
model {{
  ssd {{
    num_classes: 90
    image_resizer {{ fixed_shape_resizer {{ height: {size} width: {size} }} }}
    feature_extractor {{
      type: "{extractor}"
      depth_multiplier: 1.0
      min_depth: 16
      conv_hyperparams {{ {hyperparams} }}
      override_base_feature_extractor_hyperparams: true
      {extractor_options}
    }}
    box_coder {{
      faster_rcnn_box_coder {{ y_scale: 10.0 x_scale: 10.0 height_scale: 5.0 width_scale: 5.0 }}
    }}
    box_predictor {{ {predictor} }}
    anchor_generator {{ {anchors} }}
    post_processing {{
      batch_non_max_suppression {{
        score_threshold: 1e-8
        iou_threshold: 0.6
        max_detections_per_class: 100
        max_total_detections: 100
      }}
      score_converter: SIGMOID
    }}
    encode_background_as_zeros: true
  }}
}}
)";

constexpr std::string_view kHyperparams =
    "activation: RELU_6 batch_norm { center: true scale: true epsilon: 0.001 }";

constexpr std::string_view kMultiscaleAnchors = R"(
multiscale_anchor_generator {
  min_level: 3 max_level: 7 anchor_scale: 4.0
  aspect_ratios: 1.0 aspect_ratios: 2.0 aspect_ratios: 0.5
  scales_per_octave: 2
})";

constexpr std::string_view kSsdAnchors = R"(
ssd_anchor_generator {
  num_layers: 6 min_scale: 0.2 max_scale: 0.95
  aspect_ratios: 1.0 aspect_ratios: 2.0 aspect_ratios: 0.5 aspect_ratios: 3.0 aspect_ratios: 0.3333
})";

Official ssd_fpn(std::string name, std::string title, std::string_view extractor, int size, bool lite) {
  const std::string predictor = fmt::format(
      "weight_shared_convolutional_box_predictor {{ conv_hyperparams {{ {} }} depth: {} "
      "num_layers_before_predictor: 4 kernel_size: 3 {} }}",
      kHyperparams, lite ? 128 : 256, lite ? "share_prediction_tower: true use_depthwise: true" : "");
  const std::string options = fmt::format("{} fpn {{ min_level: 3 max_level: 7 additional_layer_depth: {} }}",
                                          lite ? "use_depthwise: true" : "", lite ? 128 : 256);
  return {std::move(name), std::move(title),
          fmt::format(kSsd, fmt::arg("size", size), fmt::arg("extractor", extractor),
                      fmt::arg("hyperparams", kHyperparams), fmt::arg("extractor_options", options),
                      fmt::arg("predictor", predictor), fmt::arg("anchors", kMultiscaleAnchors))};
}

// Named 320x320, but its config says 300.
Official ssd_mobilenet_v2() {
  const std::string predictor = fmt::format(
      "convolutional_box_predictor {{ conv_hyperparams {{ {} }} use_dropout: false kernel_size: 1 }}",
      kHyperparams);
  return {"ssd_mobilenet_v2_320x320_coco17_tpu-8", "SSD MobileNet V2, 300x300",
          fmt::format(kSsd, fmt::arg("size", 300), fmt::arg("extractor", "ssd_mobilenet_v2_keras"),
                      fmt::arg("hyperparams", kHyperparams), fmt::arg("extractor_options", ""),
                      fmt::arg("predictor", predictor), fmt::arg("anchors", kSsdAnchors))};
}

// What all EfficientDets of the zoo have in common. Their archives have another box coder than the configs of
// the repository, which are for training anew.
constexpr std::string_view kEfficientDet = R"(
model {{
  ssd {{
    num_classes: 90
    add_background_class: false
    image_resizer {{ {resizer} }}
    feature_extractor {{
      type: "ssd_efficientnet-b{trunk}_bifpn_keras"
      conv_hyperparams {{ {hyperparams} }}
      bifpn {{ min_level: 3 max_level: 7 num_iterations: {cells} num_filters: {width} {combine} }}
    }}
    box_coder {{
      faster_rcnn_box_coder {{ y_scale: 1.0 x_scale: 1.0 height_scale: 1.0 width_scale: 1.0 }}
    }}
    box_predictor {{
      weight_shared_convolutional_box_predictor {{
        conv_hyperparams {{ {hyperparams} }}
        depth: {width} num_layers_before_predictor: {repeats} kernel_size: 3 use_depthwise: true
      }}
    }}
    anchor_generator {{
      multiscale_anchor_generator {{
        min_level: 3 max_level: 7 anchor_scale: 4.0 aspect_ratios: [1.0, 2.0, 0.5] scales_per_octave: 3
      }}
    }}
    post_processing {{
      batch_non_max_suppression {{
        score_threshold: 1e-8
        iou_threshold: 0.5
        max_detections_per_class: 100
        max_total_detections: 100
      }}
      score_converter: SIGMOID
    }}
  }}
}}
)";

// What all CenterNets of the zoo that give boxes alone have in common.
constexpr std::string_view kCenterNet = R"(
model {{
  center_net {{
    num_classes: 90
    feature_extractor {{ {extractor} }}
    image_resizer {{ {resizer} }}
    object_detection_task {{ task_loss_weight: 1.0 offset_loss_weight: 1.0 scale_loss_weight: 0.1 }}
    object_center_params {{ object_center_loss_weight: 1.0 min_box_overlap_iou: 0.7 max_box_predictions: 100 }}
  }}
}}
)";

constexpr std::string_view kHourglass104 =
    "type: 'hourglass_104' bgr_ordering: true channel_means: [104.01361846923828, 114.03422546386719, "
    "119.91659545898438] channel_stds: [73.60276794433594, 69.89082336425781, 70.91507720947266]";

struct EfficientDetRow {
  int trunk, size, width, cells, repeats;
  std::string_view combine{};
};

// What all two-stage models of the zoo have in common.
constexpr std::string_view kTwoStage = R"(
model {{
  faster_rcnn {{
    number_of_stages: {stages}
    num_classes: 90
    image_resizer {{ {resizer} }}
    feature_extractor {{ type: "{extractor}" }}
    first_stage_anchor_generator {{
      grid_anchor_generator {{
        scales: [0.25, 0.5, 1.0, 2.0] aspect_ratios: [0.5, 1.0, 2.0] height_stride: 16 width_stride: 16
      }}
    }}
    first_stage_nms_score_threshold: 0.0
    first_stage_nms_iou_threshold: 0.7
    first_stage_max_proposals: 300
    {crops}
    second_stage_box_predictor {{ mask_rcnn_box_predictor {{ {predictor} }} }}
    second_stage_post_processing {{
      batch_non_max_suppression {{
        score_threshold: 0.0
        iou_threshold: 0.6
        max_detections_per_class: 100
        max_total_detections: {detections}
      }}
      score_converter: SOFTMAX
    }}
    use_matmul_crop_and_resize: {tpu}
  }}
}}
)";

constexpr std::string_view kResNetCrops = "initial_crop_size: 14 maxpool_kernel_size: 2 maxpool_stride: 2";
constexpr std::string_view kInceptionCrops = "initial_crop_size: 17 maxpool_kernel_size: 1 maxpool_stride: 1";

std::string keep_aspect(int shortest, int longest) {
  return fmt::format(
      "keep_aspect_ratio_resizer {{ min_dimension: {} max_dimension: {} pad_to_max_dimension: true }}",
      shortest, longest);
}

std::string fixed_shape(int size) {
  return fmt::format("fixed_shape_resizer {{ height: {} width: {} }}", size, size);
}

constexpr std::array<EfficientDetRow, 8> kEfficientDets{{{0, 512, 64, 3, 3},
                                                         {1, 640, 88, 4, 3},
                                                         {2, 768, 112, 5, 3},
                                                         {3, 896, 160, 6, 4},
                                                         {4, 1024, 224, 7, 4},
                                                         {5, 1280, 288, 7, 4},
                                                         {6, 1408, 384, 8, 5, "combine_method: 'sum'"},
                                                         {6, 1536, 384, 8, 5, "combine_method: 'sum'"}}};

void add_efficientdets(std::vector<Official>& out) {
  for (std::size_t d = 0; d < kEfficientDets.size(); ++d) {
    const EfficientDetRow& row = kEfficientDets[d];
    out.push_back(
        {fmt::format("efficientdet_d{}_coco17_tpu-32", d),
         fmt::format("EfficientDet D{} of the API, {}x{}", d, row.size, row.size),
         fmt::format(kEfficientDet, fmt::arg("resizer", keep_aspect(row.size, row.size)),
                     fmt::arg("trunk", row.trunk), fmt::arg("cells", row.cells), fmt::arg("width", row.width),
                     fmt::arg("combine", row.combine), fmt::arg("repeats", row.repeats),
                     fmt::arg("hyperparams",
                              "force_use_bias: true activation: SWISH "
                              "batch_norm { scale: true epsilon: 0.001 }"))});
  }
}

void add_center_nets(std::vector<Official>& out) {
  const auto add = [&](std::string name, std::string title, std::string_view extractor, int size) {
    out.push_back({std::move(name), fmt::format("CenterNet {}, {}x{}", title, size, size),
                   fmt::format(kCenterNet, fmt::arg("extractor", extractor),
                               fmt::arg("resizer", keep_aspect(size, size)))});
  };
  add("centernet_hg104_512x512_coco17_tpu-8", "Hourglass104", kHourglass104, 512);
  add("centernet_hg104_1024x1024_coco17_tpu-32", "Hourglass104", kHourglass104, 1024);
  for (const int depth : {50, 101})
    add(fmt::format("centernet_resnet{}_v1_fpn_512x512_coco17_tpu-8", depth),
        fmt::format("ResNet{} V1 FPN", depth), fmt::format("type: 'resnet_v1_{}_fpn'", depth), 512);
}

// What was trained on TPUs and what on GPUs differs in more than that.
struct TwoStageRow {
  std::string name, title, resizer;
  std::string_view extractor, crops = kResNetCrops;
  bool tpu = true;
  int detections = 300, stages = 2;
  std::string_view masks;
};

Official two_stage(const TwoStageRow& row) {
  const std::string predictor =
      fmt::format("{} {}", row.tpu ? "share_box_across_classes: true" : "", row.masks);
  return {row.name, row.title,
          fmt::format(kTwoStage, fmt::arg("stages", row.stages), fmt::arg("resizer", row.resizer),
                      fmt::arg("extractor", row.extractor), fmt::arg("crops", row.crops),
                      fmt::arg("predictor", predictor), fmt::arg("detections", row.detections),
                      fmt::arg("tpu", row.tpu))};
}

void add_resnets(std::vector<Official>& out) {
  for (const int depth : {50, 101, 152}) {
    const std::string extractor = fmt::format("faster_rcnn_resnet{}_keras", depth);
    const auto add = [&](std::string_view size, std::string_view device, std::string resizer) {
      const bool tpu = device == "tpu";
      out.push_back(
          two_stage({.name = fmt::format("faster_rcnn_resnet{}_v1_{}_coco17_{}-8", depth, size, device),
                     .title = fmt::format("Faster R-CNN ResNet{} V1, {}", depth, size),
                     .resizer = std::move(resizer),
                     .extractor = extractor,
                     .tpu = tpu,
                     .detections = tpu ? 300 : 100}));
    };
    add("640x640", "tpu", keep_aspect(640, 640));
    add("1024x1024", "tpu", fixed_shape(1024));
    add("800x1333", "gpu", keep_aspect(800, 1333));
  }
}

// The one named 1024x1024 takes photos of 800 to 1333 pixels a side.
void add_inceptions(std::vector<Official>& out) {
  TwoStageRow row{.name = "faster_rcnn_inception_resnet_v2_640x640_coco17_tpu-8",
                  .title = "Faster R-CNN Inception ResNet V2, 640x640",
                  .resizer = keep_aspect(640, 640),
                  .extractor = "faster_rcnn_inception_resnet_v2_keras",
                  .crops = kInceptionCrops,
                  .detections = 100};
  out.push_back(two_stage(row));
  row.name = "faster_rcnn_inception_resnet_v2_1024x1024_coco17_tpu-8";
  row.title = "Faster R-CNN Inception ResNet V2, 800x1333";
  row.resizer = keep_aspect(800, 1333);
  out.push_back(two_stage(row));
  row.name = "mask_rcnn_inception_resnet_v2_1024x1024_coco17_gpu-8";
  row.title = "Mask R-CNN Inception ResNet V2, 1024x1024";
  row.resizer = fixed_shape(1024);
  row.tpu = false;
  row.stages = 3;
  row.masks =
      "predict_instance_masks: true mask_height: 33 mask_width: 33 mask_prediction_conv_depth: 0 "
      "mask_prediction_num_conv_layers: 4";
  out.push_back(two_stage(row));
}

std::vector<Official> table() {
  std::vector<Official> out{
      ssd_mobilenet_v2(),
      ssd_fpn("ssd_mobilenet_v1_fpn_640x640_coco17_tpu-8", "SSD MobileNet V1 FPN, 640x640",
              "ssd_mobilenet_v1_fpn_keras", 640, false),
      ssd_fpn("ssd_mobilenet_v2_fpnlite_320x320_coco17_tpu-8", "SSD MobileNet V2 FPNLite, 320x320",
              "ssd_mobilenet_v2_fpn_keras", 320, true),
      ssd_fpn("ssd_mobilenet_v2_fpnlite_640x640_coco17_tpu-8", "SSD MobileNet V2 FPNLite, 640x640",
              "ssd_mobilenet_v2_fpn_keras", 640, true),
  };
  for (const int depth : {50, 101, 152})
    for (const int size : {640, 1024})
      out.push_back(ssd_fpn(fmt::format("ssd_resnet{}_v1_fpn_{}x{}_coco17_tpu-8", depth, size, size),
                            fmt::format("SSD ResNet{} V1 FPN (RetinaNet{}), {}x{}", depth, depth, size, size),
                            fmt::format("ssd_resnet{}_v1_fpn_keras", depth), size, false));
  add_resnets(out);
  add_inceptions(out);
  add_efficientdets(out);
  add_center_nets(out);
  return out;
}

}  // namespace

const std::vector<Official>& officials() {
  static const std::vector<Official> kTable = table();
  return kTable;
}

}  // namespace osprey::tfod
