#include "arch/efficientdet/options.h"

#include <array>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>

#include "arch/efficientdet/keys.h"
#include "arch/family/categories.h"
#include "core/error.h"
#include "formats/yaml.h"

namespace osprey::efficientdet {
namespace {

namespace fs = std::filesystem;

// More than any detector has; configs are files from outside.
constexpr int kMaxLayers = 64, kMaxWidth = 1 << 14, kMaxSide = 1 << 14, kMaxClasses = 1 << 16;
constexpr int kMaxScales = 16, kMaxRatios = 32, kMaxDetections = 1 << 16;

bool is_none(const KeyedConfig& config, std::string_view key) { return config.node(key).is_null(); }

// Python's `value or otherwise`, of a number.
float number_or(const KeyedConfig& config, std::string_view key, float otherwise) {
  const float value = is_none(config, key) ? 0 : config.number(key);
  return value == 0 ? otherwise : value;
}

Activation activation(const KeyedConfig& config) {
  const std::string type = config.text("act_type");
  if (type == "swish" || type == "silu" || type == "swish_native") return Activation::kSwish;
  if (type == "relu") return Activation::kRelu;
  if (type == "relu6") return Activation::kRelu6;
  config.refuse("act_type", "only swish (silu), relu and relu6 are");
}

int anchors_per_cell(const KeyedConfig& config) {
  const auto ratios = static_cast<int>(config.node("aspect_ratios").items.size());
  return config.at_least(1, "num_scales", kMaxScales) * ratios;
}

HeadNet head_options(const KeyedConfig& config, const std::string& name, int outputs) {
  return {.name = name,
          .out = outputs * anchors_per_cell(config),
          .repeats = config.at_least(0, "box_class_repeats", kMaxLayers),
          .width = config.at_least(1, "fpn_num_filters", kMaxWidth),
          .separable = config.flag("separable_conv"),
          .residual = number_or(config, "survival_prob", 0) != 0,
          .activation = activation(config),
          .min_level = config.at_least(1, "min_level", 5)};
}

// Whether a member's network is the one that the variables belong to.
bool fits(const Member& member, const Traits& traits) {
  const KeyedConfig config(keys(), changes_of(member));
  const BiFpn pyramid = pyramid_options(config);
  return config.text("backbone_name") == traits.backbone && pyramid.width == traits.width &&
         pyramid.cells == traits.cells && class_options(config).repeats == traits.repeats &&
         pyramid.max_level == traits.max_level && pyramid.weighted == traits.weighted;
}

// Members may differ in their input alone: then the nearest folder that is called as one of them tells.
const Member& recognised_member(const Traits& traits, const std::string& source) {
  std::vector<const Member*> found;
  std::string names;
  for (const Member& member : members()) {
    if (!fits(member, traits)) continue;
    found.push_back(&member);
    names += fmt::format("{}{}", names.empty() ? "" : " or ", member.name);
  }
  require(!found.empty(),
          "no official EfficientDet has {}; give --config with the config.yaml of its training, or a member "
          "such as efficientdet-d0 and what differs by --set",
          to_text(traits));
  if (found.size() == 1) return *found[0];
  for (fs::path path = fs::path(source).lexically_normal(); path.has_relative_path();
       path = path.parent_path())
    for (const Member* member : found)
      if (path.filename() == fs::path(member->name)) return *member;
  bad_input("could be {}, which differ in their input alone: say which by --config", names);
}

// The member that a file of hyper-parameters is about.
const Member& member_of(const ConfigTree& file, const Traits& traits, const std::string& source) {
  for (const char* key : {"name", "model_name"})
    if (const ConfigTree* name = file.child(key); name && name->is_scalar())
      if (const Member* member = find_member(name->text)) return *member;
  return recognised_member(traits, source);
}

// The config.yaml that training programs leave beside checkpoints; empty when there is none.
std::string config_beside(const std::string& source) {
  const fs::path path(source);
  const fs::path folder = fs::is_directory(path) ? path : path.parent_path();
  const fs::path file = folder / "config.yaml";
  return fs::is_regular_file(file) ? file.string() : "";
}

ConfigTree read_changes(std::string config, const Traits& traits, const std::string& source) {
  if (config.empty()) config = config_beside(source);
  if (config.empty()) return changes_of(recognised_member(traits, source));
  if (fs::exists(config)) {
    const ConfigTree file = load_config(config);
    require(file.is_map(), "{}: holds no hyper-parameters", config);
    ConfigTree changes = changes_of(member_of(file, traits, source));
    merge(changes, file);
    return changes;
  }
  const Member* member = find_member(config);
  require(member != nullptr,
          "config '{}' is neither a file nor an official EfficientDet; those are efficientdet-d0 to d7, d7x, "
          "lite0 to lite4 and lite3x",
          config);
  return changes_of(*member);
}

float threshold(const KeyedConfig& config, std::string_view key, float otherwise) {
  const float value = number_or(config, key, otherwise);
  if (!(value <= 1)) config.node(key).refuse("a number up to 1");
  return value;
}

// tf2/postprocess.py. Scores are sigmoids, all of which are above -1: no threshold.
void set_suppression(DetectAnchors& op, const KeyedConfig& config) {
  constexpr float kNoThreshold = -1;
  const std::string mode = config.text("post_mode");
  const ConfigTree& node = config.node("nms_configs.method");
  const std::string method = node.is_null() || node.as_string().empty() ? "hard" : node.as_string();
  if (method != "hard" && method != "gaussian")
    config.refuse("nms_configs.method", "only hard and gaussian are");
  if (mode != "global" && mode != "per_class" && mode != "combined")
    config.refuse("post_mode", "only global, per_class and combined are");
  const char* const score = "nms_configs.score_thresh";
  op.best_class_only = mode != "combined";
  op.agnostic = mode == "global";
  op.clip = mode == "per_class" ? KeptClip::kNone : KeptClip::kKeepEmpty;
  op.iou = 0.5f;
  if (mode == "combined") {  // of the scores alone, whatever the method
    op.threshold = threshold(config, score, kNoThreshold);
  } else if (method == "hard") {
    op.iou = threshold(config, "nms_configs.iou_thresh", 0.5f);
    op.threshold = threshold(config, score, kNoThreshold);
  } else {
    op.threshold = threshold(config, score, 0.001f);
    op.soft_sigma = number_or(config, "nms_configs.sigma", 0.5f) / 2;  // TensorFlow's is half the paper's
    if (!(op.soft_sigma > 0)) config.node("nms_configs.sigma").refuse("a positive number");
  }
  if (op.iou < 0) config.node("nms_configs.iou_thresh").refuse("a number from 0 to 1");
}

// Widths and heights of anchors whose area is one, in the config's order.
std::vector<std::array<double, 2>> ratio_sides(const KeyedConfig& config) {
  const ConfigTree& node = config.node("aspect_ratios");
  if (!node.is_list() || node.items.empty() || node.items.size() > kMaxRatios)
    node.refuse(fmt::format("a list of 1 to {} ratios", kMaxRatios));
  std::vector<std::array<double, 2>> out;
  for (const ConfigTree& item : node.items) {
    if (item.is_list()) {
      const auto sides = item.as_doubles();
      if (sides.size() != 2 || !(sides[0] > 0) || !(sides[1] > 0)) item.refuse("two positive numbers");
      out.push_back({sides[0], sides[1]});
    } else {
      const double ratio = item.as_double();
      if (!(ratio > 0)) item.refuse("a positive number");
      const double x = std::sqrt(ratio);
      out.push_back({x, 1 / x});
    }
  }
  return out;
}

// In strides, one number a level.
std::vector<double> anchor_scales(const KeyedConfig& config, std::size_t levels) {
  const ConfigTree& node = config.node("anchor_scale");
  std::vector<double> out =
      node.is_list() ? node.as_doubles() : std::vector<double>(levels, node.as_double());
  if (out.size() != levels) node.refuse(fmt::format("a number, or one for each of {} levels", levels));
  for (const double scale : out)
    if (!(scale > 0 && scale < kMaxSide)) node.refuse("positive numbers");
  return out;
}

// Network pixels between the cells of a level along an axis: each level has half the cells of the one before,
// rounded up.
double stride_of(int side, int level) {
  int cells = side;
  for (int l = 0; l < level; ++l) cells = (cells - 1) / 2 + 1;
  return static_cast<double>(side) / cells;
}

// Scales outer, ratios inner; computed in double, as NumPy does.
void add_cells(DetectAnchors& op, const KeyedConfig& config, double scale, double stride_y, double stride_x) {
  const int octaves = config.at_least(1, "num_scales", kMaxScales);
  for (int octave = 0; octave < octaves; ++octave) {
    const double size = std::pow(2.0, static_cast<double>(octave) / octaves);
    for (const auto& [x, y] : ratio_sides(config)) {
      const double half_w = scale * stride_x * size * x / 2, half_h = scale * stride_y * size * y / 2;
      for (const double corner : {-half_w, -half_h, half_w, half_h})
        op.cells.push_back(static_cast<float>(corner));
    }
  }
}

std::vector<float> three_numbers(const KeyedConfig& config, std::string_view key) {
  if (!config.node(key).is_scalar()) return config.numbers(key, 3);
  return std::vector<float>(3, config.number(key));
}

// Ids from 1 to `count`; AutoML's class k has the id k + 1.
std::vector<Category> by_id(int count, const std::map<int, std::string>& names) {
  std::vector<Category> out = numbered_categories(count);
  for (Category& c : out)
    if (const auto it = names.find(c.id); it != names.end()) c.name = it->second;
  return out;
}

std::map<int, std::string> names_of(const std::vector<Category>& list) {
  std::map<int, std::string> out;
  for (const Category& c : list) out[c.id] = c.name;
  return out;
}

}  // namespace

KeyedConfig load(const std::string& config, const std::vector<std::pair<std::string, std::string>>& overrides,
                 const Traits& traits, const std::string& source) {
  ConfigTree changes = read_changes(config, traits, source);
  for (const auto& [key, value] : overrides) keys().set(changes, key, value);
  if (changes.child("num_classes") || traits.class_outputs == 0) return {keys(), changes};
  // A fine-tuned checkpoint tells how many classes it has.
  const int anchors = anchors_per_cell({keys(), changes});
  if (traits.class_outputs % anchors == 0)
    set_by_path(changes, "num_classes", std::to_string(traits.class_outputs / anchors));
  return {keys(), changes};
}

Size image_size(const KeyedConfig& config) {
  const ConfigTree& node = config.node("image_size");
  constexpr const char* kExpected = "a side, or \"WIDTHxHEIGHT\", in pixels";
  std::vector<std::int64_t> sides;  // height, width
  if (node.is_list()) {
    sides = node.as_ints();
  } else if (const auto x = node.as_string().find_first_of("xX"); x != std::string::npos) {
    const std::string text = node.as_string();
    for (const std::string& side : {text.substr(x + 1), text.substr(0, x)})
      sides.push_back(decode_literal(side).as_int());
  } else {
    sides.assign(2, node.as_int());
  }
  if (sides.size() != 2) node.refuse(kExpected);
  for (const std::int64_t side : sides)
    if (side < 1 || side > kMaxSide) node.refuse(kExpected);
  return {static_cast<int>(sides[0]), static_cast<int>(sides[1])};
}

EfficientNet trunk_options(const KeyedConfig& config) {
  auto trunk = official_efficientnet(config.text("backbone_name"));
  if (!trunk) config.refuse("backbone_name", "only efficientnet-b0 to b8, l2 and lite0 to lite4 are");
  trunk->activation = activation(config);
  return *trunk;
}

BiFpn pyramid_options(const KeyedConfig& config) {
  BiFpn out{.width = config.at_least(1, "fpn_num_filters", kMaxWidth),
            .cells = config.at_least(1, "fpn_cell_repeats", kMaxLayers),
            .min_level = config.at_least(1, "min_level", 5),
            .batch_norm = config.flag("apply_bn_for_resampling"),
            .conv_after_downsample = config.flag("conv_after_downsample"),
            .separable = config.flag("separable_conv"),
            .activation_last = config.flag("conv_bn_act_pattern"),
            .activation = activation(config)};
  out.max_level = config.at_least(out.min_level + 1, "max_level", 10);
  if (!is_none(config, "fpn_name")) {
    const std::string name = config.text("fpn_name");
    if (!name.empty() && name != "bifpn" && name != "bifpn_dyn") config.refuse("fpn_name", "only bifpn is");
  }
  const std::string method = is_none(config, "fpn_weight_method") ? "" : config.text("fpn_weight_method");
  if (!method.empty() && method != "fastattn" && method != "sum")
    config.refuse("fpn_weight_method", "only fastattn and sum are");
  out.weighted = method != "sum";
  return out;
}

HeadNet class_options(const KeyedConfig& config) {
  return head_options(config, "class", config.at_least(1, "num_classes", kMaxClasses));
}

HeadNet box_options(const KeyedConfig& config) { return head_options(config, "box", 4); }

bool uses_averages(const KeyedConfig& config) { return number_or(config, "moving_average_decay", 0) > 0; }

DetectAnchors detection_options(const KeyedConfig& config, const Size& size) {
  DetectAnchors op{.anchors = anchors_per_cell(config),
                   .classes = config.at_least(1, "num_classes", kMaxClasses),
                   .scores = AnchorScores::kSigmoid,
                   .delta_order = DeltaOrder::kYxhw,
                   .max_detections = config.at_least(1, "nms_configs.max_output_size", kMaxDetections),
                   .stage = 2};
  set_suppression(op, config);
  const BiFpn pyramid = pyramid_options(config);
  const std::vector<double> scales = anchor_scales(config, pyramid.levels());
  for (std::size_t l = 0; l < pyramid.levels(); ++l) {
    const int level = pyramid.min_level + static_cast<int>(l);
    const double y = stride_of(size.height, level), x = stride_of(size.width, level);
    for (const double stride : {y, x}) {
      op.strides.push_back(static_cast<float>(stride));
      op.offsets.push_back(0.5f);
    }
    add_cells(op, config, scales[l], y, x);
  }
  return op;
}

Pixels pixel_options(const KeyedConfig& config) {
  Pixels out{three_numbers(config, "mean_rgb"), three_numbers(config, "stddev_rgb")};
  for (const float s : out.std)
    if (!(s > 0)) config.node("stddev_rgb").refuse("positive numbers");
  return out;
}

std::vector<Category> categories(const KeyedConfig& config) {
  const int count = config.at_least(1, "num_classes", kMaxClasses);
  const ConfigTree& map = config.node("label_map");
  if (map.is_map()) {
    std::map<int, std::string> names;
    for (const ConfigTree& item : map.items) {
      const std::int64_t id = decode_literal(item.key).as_int();
      if (id < std::numeric_limits<int>::min() || id > std::numeric_limits<int>::max())
        item.refuse("a name under an id of 32 bits");
      names[static_cast<int>(id)] = item.as_string();
    }
    return by_id(count, names);
  }
  std::string name = map.is_null() ? "" : map.as_string();
  if (name.empty() && count == 90) name = "coco";
  if (name == "coco") return by_id(count, names_of(coco_categories()));
  if (name == "voc") return by_id(count, names_of(voc_categories()));
  if (name == "waymo") return by_id(count, {{1, "vehicle"}, {2, "pedestrian"}, {3, "cyclist"}});
  if (!name.empty())
    config.refuse("label_map", "only coco, voc, waymo or a map are; give the file to --labels");
  return numbered_categories(count);
}

}  // namespace osprey::efficientdet
