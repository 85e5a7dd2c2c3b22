// The table of official models (tf2_detection_zoo.md): facts for inference only, so schedules, augmentation,
// losses and initialisers are absent.
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
  return out;
}

}  // namespace

const std::vector<Official>& officials() {
  static const std::vector<Official> kTable = table();
  return kTable;
}

}  // namespace osprey::tfod
