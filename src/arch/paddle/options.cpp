#include "arch/paddle/options.h"

#include <cmath>
#include <filesystem>

#include "arch/family/categories.h"
#include "arch/paddle/keys.h"
#include "arch/paddle/zoo.h"
#include "core/error.h"
#include "formats/config_reader.h"
#include "formats/yaml.h"

namespace osprey::paddle {
namespace {

constexpr int kMaxSide = 1 << 13, kMaxWidth = 1 << 14, kMaxLayers = 64;

// A key of a module, or what all modules share under that name, or `otherwise`.
const ConfigTree* shared(const KeyedConfig& config, const std::string& module, const std::string& key) {
  for (const std::string& path : {fmt::format("{}.{}", module, key), key})
    if (const ConfigTree& node = config.node(path); !node.is_null()) return &node;
  return nullptr;
}

int shared_count(const KeyedConfig& config, const std::string& module, const std::string& key,
                 int otherwise) {
  const ConfigTree* node = shared(config, module, key);
  const std::int64_t value = node ? node->as_int() : otherwise;
  if (value < 1 || value > kMaxWidth) node->refuse(fmt::format("a number from 1 to {}", kMaxWidth));
  return static_cast<int>(value);
}

// Stages or levels by number, ascending.
std::vector<int> indices(const KeyedConfig& config, const std::string& key, int least, int most) {
  std::vector<int> out = config.integers(key);
  bool good = !out.empty();
  for (std::size_t i = 0; i < out.size(); ++i)
    good = good && out[i] >= least && out[i] <= most && (i == 0 || out[i] > out[i - 1]);
  if (!good) config.node(key).refuse(fmt::format("ascending numbers from {} to {}", least, most));
  return out;
}

// The arguments of the transform of that name, in a reader's list of single-key maps.
const ConfigTree* transform(const ConfigTree& reader, std::string_view name) {
  const ConfigTree* list = reader.find("sample_transforms");
  if (!list || !list->is_list()) return nullptr;
  for (const ConfigTree& item : list->items)
    if (const ConfigTree* found = item.child(name)) return found;
  return nullptr;
}

// The first reader that resizes: what tools/infer.py and exported models use, then what tools/eval.py does.
const ConfigTree& test_reader(const KeyedConfig& config) {
  for (const char* key : {"TestReader", "EvalReader"})
    if (const ConfigTree& reader = config.node(key); reader.is_map() && transform(reader, "Resize"))
      return reader;
  bad_input(
      "the config has no TestReader or EvalReader with a Resize: the network's input size is not known");
}

void refuse_unknown_transforms(const ConfigTree& reader) {
  for (const ConfigTree& item : reader.at("sample_transforms").items) {
    if (!item.is_map() || item.items.size() != 1) item.refuse("one transform");
    const std::string& name = item.items[0].key;
    if (name != "Decode" && name != "Resize" && name != "NormalizeImage" && name != "Permute")
      bad_input("{}: the transform {} is not supported; Decode, Resize, NormalizeImage and Permute are",
                item.items[0].where(), name);
  }
}

void read_size(const ConfigTree& resize, Reader& out) {
  const ConfigTree& size = resize.at("target_size");
  const std::vector<std::int64_t> sides = size.is_list() ? size.as_ints() : std::vector(2, size.as_int());
  if (sides.size() != 2) size.refuse("a side, or [height, width], in pixels");
  for (const std::int64_t side : sides)
    if (side < 32 || side > kMaxSide || side % 32 != 0)
      size.refuse(fmt::format("multiples of 32 up to {}: strides 8, 16 and 32 must fit", kMaxSide));
  out.height = static_cast<int>(sides[0]), out.width = static_cast<int>(sides[1]);
  if (const ConfigTree* keep = resize.find("keep_ratio"); !keep || keep->as_bool())
    resize.refuse("keep_ratio: false; others are not supported");
  if (const ConfigTree* interp = resize.find("interp"); !interp || interp->as_int() != 2)
    resize.refuse("interp: 2 (bicubic); others are not supported");
}

std::vector<float> three_numbers(const ConfigTree& node) {
  const std::vector<double> values = node.as_doubles();
  if (values.size() != 3) node.refuse("three numbers");
  return {values.begin(), values.end()};
}

void read_normalisation(const ConfigTree& normalize, Reader& out) {
  const ConfigTree* scaled = normalize.find("is_scale");
  if (!scaled || scaled->as_bool()) out.scale = 1.0f / 255;
  const ConfigTree* type = normalize.find("norm_type");
  if (type && type->as_string() == "none") return;
  if (type && type->as_string() != "mean_std") type->refuse("none or mean_std");
  out.mean = three_numbers(normalize.at("mean"));
  out.std = three_numbers(normalize.at("std"));
  for (const float s : out.std)
    if (!(s > 0)) normalize.at("std").refuse("positive numbers");
}

std::string neck(const KeyedConfig& config) {
  std::string name = config.text("DETR.neck");
  if (name != (has_masks(config) ? "MaskHybridEncoder" : "HybridEncoder"))
    config.refuse("DETR.neck",
                  "RTDETRTransformer goes with HybridEncoder, MaskRTDETR with MaskHybridEncoder");
  return name;
}

EncoderLayer encoder_layer(const ConfigTree& node, int width) {
  EncoderLayer out;
  if (node.is_null()) return out;
  ConfigReader reader(node);
  if (const ConfigTree* name = reader.find("name"); name && name->as_string() != "TransformerLayer")
    name->refuse("TransformerLayer");
  if (const ConfigTree* model = reader.find("d_model"); model && model->as_int() != width)
    model->refuse(fmt::format("{}, the neck's hidden_dim", width));
  if (const ConfigTree* heads = reader.find("nhead")) out.heads = static_cast<int>(heads->as_int());
  if (const ConfigTree* feedforward = reader.find("dim_feedforward"))
    out.feedforward = static_cast<int>(feedforward->as_int());
  if (const ConfigTree* kind = reader.find("activation"))
    out.activation = parse_activation(kind->as_string(), kind->where());
  if (const ConfigTree* before = reader.find("normalize_before"); before && before->as_bool())
    before->refuse("False");
  for (const char* training : {"dropout", "attn_dropout", "act_dropout"}) reader.ignore(training);
  for (const ConfigTree* unread : reader.unread()) bad_input("{}: is not understood", unread->where());
  if (out.heads < 1 || out.heads > width || out.feedforward < 1 || out.feedforward > kMaxWidth)
    node.refuse("nhead and dim_feedforward of a transformer layer");
  return out;
}

// Layers up to the one whose detections count.
int layers_that_run(const KeyedConfig& config, const std::string& module) {
  const int layers = config.at_least(1, module + ".num_decoder_layers", kMaxLayers);
  const int last = config.integer(module + ".eval_idx");
  if (last < -layers || last >= layers)
    config.node(module + ".eval_idx").refuse(fmt::format("one of {} layers", layers));
  return (last < 0 ? last + layers : last) + 1;
}

ConfigTree read_changes(const std::string& config) {
  require(!config.empty(),
          "a PaddleDetection checkpoint needs its config: give --config the .yml of its training, or an "
          "official name such as mask_rtdetr_hgnetv2_l_6x_coco");
  if (std::filesystem::exists(config))
    return load_config(config, [](const std::string& base) { return officials().yaml(base); });
  const OfficialConfig* official = officials().find(config);
  require(official != nullptr,
          "config '{}' is neither a file nor an official config of RT-DETR or Mask RT-DETR; the nearest of "
          "those is {}",
          config, officials().closest(config));
  return officials().changes(*official);
}

}  // namespace

KeyedConfig load(const std::string& config,
                 const std::vector<std::pair<std::string, std::string>>& overrides) {
  ConfigTree changes = read_changes(config);
  for (const auto& [key, value] : overrides) keys().set(changes, key, value);
  return {keys(), changes};
}

bool has_masks(const KeyedConfig& config) {
  const std::string name = config.text("DETR.transformer");
  if (name != "RTDETRTransformer" && name != "MaskRTDETR")
    config.refuse("DETR.transformer", "only RTDETRTransformer and MaskRTDETR are");
  return name == "MaskRTDETR";
}

Reader reader_options(const KeyedConfig& config) {
  const ConfigTree& reader = test_reader(config);
  refuse_unknown_transforms(reader);
  Reader out;
  read_size(*transform(reader, "Resize"), out);
  if (const ConfigTree* normalize = transform(reader, "NormalizeImage")) read_normalisation(*normalize, out);
  return out;
}

Backbone backbone_options(const KeyedConfig& config) {
  const std::string name = config.text("DETR.backbone");
  if (name != "PPHGNetV2" && name != "ResNet")
    config.refuse("DETR.backbone", "only PPHGNetV2 and ResNet are");
  Backbone out{.stages = indices(config, name + ".return_idx", 0, 3)};
  const std::vector<int> wanted = has_masks(config) ? std::vector{0, 1, 2, 3} : std::vector{1, 2, 3};
  if (out.stages != wanted)
    config.refuse(name + ".return_idx",
                  "the neck takes strides 8, 16 and 32, with masks stride 4 before them");
  if (name == "PPHGNetV2") {
    const HgNetV2* official = find_hgnetv2(config.text("PPHGNetV2.arch"));
    if (!official) config.refuse("PPHGNetV2.arch", "only S, M, L, X and H are");
    out.hgnet = *official;
    out.hgnet->affine = config.flag("PPHGNetV2.use_lab");
    return out;
  }
  if (config.text("ResNet.variant") != "d") config.refuse("ResNet.variant", "only d is");
  if (config.integer("ResNet.num_stages") != 4) config.refuse("ResNet.num_stages", "only 4 are");
  out.resnet.depth = config.integer("ResNet.depth");
  return out;
}

HybridEncoder encoder_options(const KeyedConfig& config) {
  const std::string module = neck(config);
  const bool masks = has_masks(config);
  HybridEncoder out{.width = config.at_least(8, module + ".hidden_dim", kMaxWidth),
                    .layers = config.at_least(0, module + ".num_encoder_layers", kMaxLayers),
                    .temperature = config.number(module + ".pe_temperature"),
                    .expansion = config.number(module + ".expansion")};
  out.encoded = indices(config, module + ".use_encoder_idx", masks ? 1 : 0, masks ? 3 : 2);
  if (masks)
    for (int& level : out.encoded) --level;  // numbered from stride 4
  out.layer = encoder_layer(config.node(module + ".encoder_layer"), out.width);
  if (out.width % (4 * out.layer.heads) != 0)
    config.refuse(module + ".hidden_dim", "it must be a multiple of four times the heads");
  if (!(out.expansion > 0 && out.expansion <= 4))
    config.refuse(module + ".expansion", "it must be from 0 to 4");
  const ConfigTree* depth = shared(config, module, "depth_mult");
  const double multiplier = depth ? depth->as_double() : 1;
  if (!(multiplier >= 0 && multiplier <= 10)) depth->refuse("a number from 0 to 10");
  out.rep_blocks = static_cast<int>(std::nearbyint(3 * multiplier));  // halves to even, as Python's round
  if (const ConfigTree* act = shared(config, module, "act"))
    out.activation = parse_activation(act->as_string(), act->where());
  if (!masks) return out;
  out.mask_widths = config.integers(module + ".mask_feat_channels");
  if (out.mask_widths.size() != 2 || out.mask_widths[0] < 1 || out.mask_widths[1] < 1)
    config.node(module + ".mask_feat_channels").refuse("two widths");
  out.prototypes = shared_count(config, module, "num_prototypes", 32);
  return out;
}

Decoder decoder_options(const KeyedConfig& config) {
  const std::string module = config.text("DETR.transformer");
  Decoder out{.width = shared_count(config, module, "hidden_dim", 256),
              .classes = shared_count(config, module, "num_classes", 80),
              .queries = config.at_least(1, module + ".num_queries", kMaxWidth),
              .heads = config.at_least(1, module + ".nhead", kMaxWidth),
              .points = config.at_least(1, module + ".num_decoder_points", kMaxLayers),
              .feedforward = config.at_least(1, module + ".dim_feedforward", kMaxWidth),
              .layers = layers_that_run(config, module),
              .masks = has_masks(config)};
  out.activation = parse_activation(config.text(module + ".activation"), module + ".activation");
  if (out.width % out.heads != 0) config.refuse(module + ".nhead", "it must divide hidden_dim");
  if (!out.masks) return out;
  out.boxes_from_masks = config.flag(module + ".mask_enhanced");
  out.prototypes = shared_count(config, module, "num_prototypes", 32);
  return out;
}

PostProcess post_process_options(const KeyedConfig& config) {
  return {.top = config.at_least(1, "DETRPostProcess.num_top_queries", kMaxWidth),
          .mask_threshold = config.number("DETRPostProcess.mask_threshold")};
}

std::vector<Category> categories(const KeyedConfig& config) {
  const int count = decoder_options(config).classes;
  const std::vector<Category> coco = coco_categories();
  return count == static_cast<int>(coco.size()) ? coco : numbered_categories(count);
}

std::string describe(const KeyedConfig& config, const Reader& reader) {
  const std::string trunk = config.text("DETR.backbone") == "ResNet"
                                ? fmt::format("R{}vd", config.integer("ResNet.depth"))
                                : "HGNetv2-" + config.text("PPHGNetV2.arch");
  return fmt::format("{}RT-DETR, {}, {}x{}", has_masks(config) ? "Mask " : "", trunk, reader.height,
                     reader.width);
}

}  // namespace osprey::paddle
