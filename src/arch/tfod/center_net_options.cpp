#include "arch/tfod/center_net_options.h"

#include <algorithm>

#include "core/error.h"

namespace osprey::tfod {
namespace {

const std::string kModel = "model.center_net.", kExtractor = kModel + "feature_extractor.";

constexpr std::size_t kMaxLayers = 16;

// What an extractor does to pixels (x - means) / stds, in the order that the config has them.
struct Pixels {
  std::vector<float> means{0, 0, 0}, stds{1, 1, 1};
};

Pixels read_pixels(Config& config) {
  Pixels out;
  for (const auto& [name, list] : {std::pair("channel_means", &out.means), {"channel_stds", &out.stds}}) {
    const std::vector<float> given = config.numbers(kExtractor + name);
    if (given.empty()) continue;
    if (given.size() != 3) config.refuse(kExtractor + name, "only one number a channel is");
    *list = given;
  }
  for (const float std : out.stds)
    if (!(std > 0)) config.refuse(kExtractor + "channel_stds", "only positive numbers are");
  return out;
}

// Keras' preprocessing of a ResNet v1 on top: the other order of channels, and ImageNet's means.
void add_keras_pixels(RawInput& input) {
  constexpr std::array<float, 3> kMeans{103.939f, 116.779f, 123.68f};
  input.bgr = !input.bgr;
  std::reverse(input.mean.begin(), input.mean.end());
  std::reverse(input.std.begin(), input.std.end());
  for (std::size_t c = 0; c < kMeans.size(); ++c) input.mean[c] += kMeans[c] * input.std[c];
}

void read_trunk(Config& config, CenterNet& out) {
  const std::string path = kExtractor + "type", type = config.text(path, "");
  const Pixels pixels = read_pixels(config);
  out.input.bgr = config.flag(kExtractor + "bgr_ordering", false);
  out.input.mean = pixels.means;
  out.input.std = pixels.stds;
  out.hourglass = official_hourglass(type);
  if (out.hourglass) {
    out.description = fmt::format("CenterNet, Hourglass-{}", type.substr(type.find('_') + 1));
    return;
  }
  for (const int depth : {50, 101})
    if (type == fmt::format("resnet_v1_{}_fpn", depth)) {
      out.resnet.depth = depth;
      out.description = fmt::format("CenterNet, ResNet-{} V1 FPN", depth);
      add_keras_pixels(out.input);
      return;
    }
  config.refuse(path,
                "of a CenterNet, hourglass_10, hourglass_20, hourglass_32, hourglass_52, hourglass_104, "
                "resnet_v1_50_fpn and resnet_v1_101_fpn are");
}

CenterHead read_head(Config& config, const std::string& path) {
  if (!config.has(path)) return {};
  const auto whole = [&](const char* name, int most) {
    std::vector<int> out;
    for (const float n : config.numbers(path + name)) {
      if (!(n >= 1 && n <= static_cast<float>(most) && n == static_cast<float>(static_cast<int>(n))))
        config.refuse(path + name, fmt::format("only whole numbers from 1 to {} are", most));
      out.push_back(static_cast<int>(n));
    }
    return out;
  };
  CenterHead out{.widths = whole(".num_filters", 1 << 14), .kernels = whole(".kernel_sizes", 31)};
  if (out.widths.size() != out.kernels.size() || out.widths.size() > kMaxLayers)
    config.refuse(path, fmt::format("it needs as many kernel_sizes as num_filters, at most {}", kMaxLayers));
  return out;
}

// What a CenterNet may have beside boxes.
void refuse_other_tasks(Config& config) {
  for (const char* task : {"keypoint_estimation_task", "mask_estimation_task", "densepose_estimation_task",
                           "track_estimation_task", "temporal_offset_task", "deepmac_mask_estimation"})
    if (config.has(kModel + task)) config.refuse(kModel + task, "of a CenterNet, only boxes are");
  if (config.has(kModel + "post_processing"))
    config.refuse(kModel + "post_processing", "peaks of its heatmap are its detections, without suppression");
}

void ignore_training(Config& config) {
  for (const char* field : {"compute_heatmap_sparse", "output_prediction_dict", "keypoint_label_map_path"})
    config.ignore(kModel + field);
  for (const char* field :
       {"task_loss_weight", "offset_loss_weight", "scale_loss_weight", "localization_loss"})
    config.ignore(kModel + "object_detection_task." + field);
  for (const char* field : {"object_center_loss_weight", "classification_loss", "heatmap_bias_init",
                            "min_box_overlap_iou", "use_labeled_classes", "keypoint_weights_for_center"})
    config.ignore(kModel + "object_center_params." + field);
}

void check_canvas(Config& config, const CenterNet& m) {
  const std::string path = kModel + "image_resizer";
  if (m.input.canvas_height == 0)
    config.refuse(path, "a CenterNet needs a fixed input: pad_to_max_dimension");
  if (m.input.canvas_height % m.multiple() != 0 || m.input.canvas_width % m.multiple() != 0)
    config.refuse(path, fmt::format("its network needs extents that are multiples of {}", m.multiple()));
}

}  // namespace

CenterNet center_net_options(Config& config, int height, int width) {
  CenterNet out;
  refuse_other_tasks(config);
  ignore_training(config);
  out.classes = config.integer(kModel + "num_classes", 0, 1, 100000);
  out.input = read_raw_input(config, kModel + "image_resizer", height, width);
  read_trunk(config, out);
  const std::string centers = kModel + "object_center_params.", boxes = kModel + "object_detection_task.";
  if (!config.has(kModel + "object_detection_task"))
    bad_input("{}object_detection_task: is not given; a CenterNet without boxes is not supported", kModel);
  out.centers = read_head(config, centers + "center_head_params");
  out.sizes = read_head(config, boxes + "scale_head_params");
  out.offsets = read_head(config, boxes + "offset_head_params");
  out.depthwise = config.flag(kModel + "use_depthwise", false);
  out.queries.peak = config.integer(centers + "peak_max_pool_kernel_size", 3, 0, 255);
  out.queries.peak = std::max(out.queries.peak, 1);
  out.detections = config.integer(centers + "max_box_predictions", 100, 1, 100000);
  check_canvas(config, out);
  return out;
}

}  // namespace osprey::tfod
