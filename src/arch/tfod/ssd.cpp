#include "arch/tfod/ssd.h"

#include <algorithm>
#include <cmath>

#include "arch/blocks/photo_io.h"
#include "ops/add.h"
#include "ops/normalize_image.h"
#include "ops/upsample.h"

namespace osprey::tfod {
namespace {

const std::string kExtractor = "model/_feature_extractor/", kPredictor = "model/_box_predictor/";

NetworkInput photo_input(Net& net, const Ssd& m) {
  const Dim n = Dim::symbol("N");
  const ValueId photos =
      net.graph().add_input("photos", {DType::kU8, {n, Dim::symbol("H"), Dim::symbol("W"), 3}});
  const ValueId sizes = net.graph().add_input("sizes", {DType::kI32, {n, 2}});
  ResizeImage resize{.rule = ResizeRule::kTfBilinear,
                     .canvas_height = m.input.height,
                     .canvas_width = m.input.width,
                     .fit = m.input.fit};
  if (m.input.fit == Fit::kKeepAspect) {
    resize.shortest = m.input.shortest;
    resize.longest = m.input.longest;
  }
  switch (m.trunk.kind) {
    case TrunkKind::kMobileNet:
      resize.scale = 2.f / 255.f;
      resize.mean = resize.std = {1, 1, 1};
      break;
    case TrunkKind::kResNet:
      resize.mean = {123.68f, 116.779f, 103.939f};
      resize.std = {1, 1, 1};
      break;
    case TrunkKind::kEfficientNet:
      resize.scale = 1.f / 255.f;
      resize.mean = {0.485f, 0.456f, 0.406f};
      resize.std = {0.229f, 0.224f, 0.225f};
      break;
  }
  const auto resized = net.add_all(std::move(resize), {photos, sizes}, "input.resize");
  net.stage("geometry", resized.at(1));
  const NormalizeImage pad{.mean = {},
                           .std = {},
                           .multiple = m.input.multiple,
                           .canvas_height = m.input.height,
                           .canvas_width = m.input.width};
  return {net.stage("preprocessed", net.add(pad, resized, "input.normalize")), resized[1]};
}

Features trunk(Net& net, const SsdTrunk& m, ValueId image) {
  const std::string prefix = kExtractor + "classification_backbone/";
  if (m.kind == TrunkKind::kMobileNet) return mobilenet(net, prefix, m.mobilenet, image);
  if (m.kind == TrunkKind::kEfficientNet) return efficientnet(net, m.efficientnet, image);
  Features stages = resnet_v1(net, prefix, m.resnet, image, 5);
  for (std::size_t i = 0; i < stages.size(); ++i) stages[i].name = fmt::format("level{}", i + 2);
  return stages;
}

const Feature& feature(const Features& features, const std::string& name) {
  const auto it =
      std::find_if(features.begin(), features.end(), [&](const Feature& f) { return f.name == name; });
  check(it != features.end(), "tfod: no feature map {}", name);
  return *it;
}

// A 3x3 convolution (a separable one with `depthwise`) at "<name>/0", its norm at "<name>/1".
ValueId conv_block(Net& net, const std::string& name, const SsdMaps& m, ValueId x, int stride) {
  const TfConv layer{.out = m.depth, .kernel = 3, .stride = stride, .bias = m.layers.bias()};
  x = m.depthwise ? tf_separable_conv(net, name + "/0", x, layer) : tf_conv(net, name + "/0", x, layer);
  return norm_and_activate(net, name + "/1", x, m.layers);
}

// The deepest map's projection is a level as it is. Above, the sum of a projection and the level below gets a
// convolution more, and what that gives is what the next level adds.
Features pyramid(Net& net, const SsdMaps& m, const Features& features) {
  const std::string name = kExtractor + "_fpn_features_generator/";
  const auto project = [&](const std::string& part, int level) {
    return tf_conv(net, name + part + "/0", feature(features, fmt::format("level{}", level)).value,
                   {.out = m.depth, .bias = true});
  };
  Features out{{"level5", project("top_layers", 5), 32}};
  // Below, numbers count from the deepest; "top_layers/0" is one layer, "residual_blocks/0/0" one of a list.
  for (int level = 4, i = 0; level >= m.min_level; --level, ++i) {
    const ValueId above =
        net.add(Upsample{.scale = 2}, {out.front().value}, fmt::format("{}upsample_{}", name, level));
    const ValueId sum = net.add(Add{}, {above, project(fmt::format("residual_blocks/{}", i), level)},
                                fmt::format("{}add_{}", name, level));
    const ValueId smooth = conv_block(net, fmt::format("{}conv_layers/{}", name, i), m, sum, 1);
    out.insert(out.begin(), {fmt::format("level{}", level), smooth, 1 << level});
  }
  for (int level = 6; level <= m.max_level; ++level) {
    const ValueId x = conv_block(net, fmt::format("{}_coarse_feature_layers/{}", kExtractor, level - 6), m,
                                 out.back().value, 2);
    out.push_back({fmt::format("level{}", level), x, 1 << level});
  }
  return out;
}

// Liu et al. 2016: a 1x1 to half the width, then a 3x3 of stride 2, for each map beyond the trunk's.
Features added_maps(Net& net, const Ssd& m, const Features& features) {
  constexpr std::array<int, 6> kWidths{0, 0, 512, 256, 256, 128};
  const SsdMaps& maps = m.maps;
  const auto width = [&](int nominal) {
    return std::max(static_cast<int>(static_cast<float>(nominal) * maps.depth_multiplier), maps.min_depth);
  };
  Features out{feature(features, m.trunk.mobilenet.version == 1 ? "level4" : "expansion"),
               feature(features, "level5")};
  out.resize(static_cast<std::size_t>(std::min(maps.count, 2)));
  for (int i = 2; i < maps.count; ++i) {
    const int nominal = kWidths.at(static_cast<std::size_t>(i));
    const std::string name = fmt::format("{}feature_map_generator/convolutions/{}/", kExtractor, i);
    const auto block = [&](int index, ValueId x, const TfConv& layer) {
      return norm_and_activate(net, fmt::format("{}{}", name, index + 1),
                               tf_conv(net, fmt::format("{}{}", name, index), x, layer), maps.layers);
    };
    const bool bias = maps.layers.bias();
    ValueId x = block(0, out.back().value, {.out = width(nominal / 2), .bias = bias});
    if (maps.depthwise) {
      x = tf_depthwise_conv(net, name + "3", x, {.kernel = 3, .stride = 2, .bias = bias});
      x = block(6, norm_and_activate(net, name + "4", x, maps.layers), {.out = width(nominal), .bias = bias});
    } else {
      x = block(3, x, {.out = width(nominal), .kernel = 3, .stride = 2, .bias = bias});
    }
    out.push_back({"", x, out.back().stride * 2});
  }
  return out;
}

Features feature_maps(Net& net, const Ssd& m, const Features& features) {
  if (m.maps.bifpn) return bifpn(net, *m.maps.bifpn, features);
  return m.maps.pyramid ? pyramid(net, m.maps, features) : added_maps(net, m, features);
}

// What the heads give for one map.
struct Predicted {
  ValueId boxes = kNoValue, classes = kNoValue;
};

// The columns that each map's cells need.
struct Columns {
  int boxes = 0, classes = 0;
};

// ConvolutionalBoxPredictor: layers of its own for every map.
class SeparateHeads {
 public:
  SeparateHeads(Net& net, const SsdHeads& m) : net_(net), m_(m) {}

  Predicted operator()(std::size_t map, ValueId x, const Columns& columns) const {
    const std::string tower = fmt::format("{}_shared_nets/{}/", kPredictor, map);
    const int channels = static_cast<int>(net_.channels(x));
    const int width = std::max(std::min(channels, m_.max_depth), m_.depth);
    for (int i = 0; width > 0 && i < m_.convs; ++i) {
      // Three layers each: convolution, norm (or one that does nothing), activation.
      x = tf_conv(net_, fmt::format("{}{}", tower, 3 * i), x, {.out = width, .bias = m_.layers.bias()});
      x = norm_and_activate(net_, fmt::format("{}{}", tower, 3 * i + 1), x, m_.layers);
    }
    const std::string heads = kPredictor + "_prediction_heads/";
    return {head(fmt::format("{}box_encodings/{}/_box_encoder_layers/", heads, map), 0, x, columns.boxes),
            head(fmt::format("{}class_predictions_with_background/{}/_class_predictor_layers/", heads, map),
                 m_.dropout ? 1 : 0, x, columns.classes)};
  }

 private:
  ValueId head(const std::string& name, int first, ValueId x, int columns) const {
    const auto layer = [&](int i) { return fmt::format("{}{}", name, first + i); };
    if (!m_.depthwise)
      return tf_conv(net_, layer(0), x, {.out = columns, .kernel = m_.kernel, .bias = true, .f32_out = true});
    x = tf_depthwise_conv(net_, layer(0), x, {.kernel = m_.kernel, .bias = m_.layers.bias()});
    x = norm_and_activate(net_, layer(1), x, m_.layers);
    return tf_conv(net_, layer(3), x, {.out = columns, .bias = true, .f32_out = true});
  }

  Net& net_;
  const SsdHeads& m_;
};

// WeightSharedConvolutionalBoxPredictor: the same layers over every map, but for the norms of its towers.
class SharedHeads {
 public:
  SharedHeads(Net& net, const SsdHeads& m) : net_(net), m_(m) {}

  Predicted operator()(std::size_t map, ValueId x, const Columns& columns) const {
    const ValueId box =
        tower(m_.one_tower ? "PredictionTower" : "BoxPredictionTower", "box_encodings", map, x);
    const ValueId cls =
        m_.one_tower ? box : tower("ClassPredictionTower", "class_predictions_with_background", map, x);
    return {head("_box_prediction_head/_box_encoder_layers/0", box, columns.boxes),
            head(fmt::format("_prediction_heads/class_predictions_with_background/_class_predictor_layers/{}",
                             m_.dropout ? 1 : 0),
                 cls, columns.classes)};
  }

 private:
  ValueId tower(const std::string& convs, const std::string& norms, std::size_t map, ValueId x) const {
    const int step = m_.layers.norm ? 3 : 2;  // convolution, norm, activation
    for (int i = 0; i < m_.convs; ++i) {
      x = conv(fmt::format("{}_head_scope_conv_layers/{}/{}", kPredictor, convs, i), x,
               {.out = m_.depth, .kernel = m_.kernel, .bias = m_.layers.force_bias || !m_.layers.norm});
      x = norm_and_activate(
          net_, fmt::format("{}_base_tower_layers_for_heads/{}/{}/{}", kPredictor, norms, map, step * i + 1),
          x, m_.layers);
    }
    return x;
  }
  ValueId head(const std::string& name, ValueId x, int columns) const {
    return conv(kPredictor + name, x, {.out = columns, .kernel = m_.kernel, .bias = true, .f32_out = true});
  }
  ValueId conv(const std::string& name, ValueId x, const TfConv& layer) const {
    return m_.depthwise ? tf_separable_conv(net_, name, x, layer) : tf_conv(net_, name, x, layer);
  }

  Net& net_;
  const SsdHeads& m_;
};

// The strides and offsets of a map's anchors, vertical and horizontal.
struct Grid {
  std::array<float, 2> stride{}, offset{};
};

// With a canvas of constant extents a multiscale level that does not divide them starts at 0, not at half a
// cell.
Grid multiscale_grid(int level, const SsdInput& input) {
  Grid out;
  const std::array<int, 2> extents{input.height, input.width};
  for (std::size_t axis = 0; axis < 2; ++axis) {
    out.stride[axis] = static_cast<float>(1 << level);
    out.offset[axis] = extents[axis] % (1 << level) == 0 ? 0.5f : 0;
  }
  return out;
}

Grid map_grid(const SsdAnchors& m, std::size_t map, const SsdInput& input, const TensorType& type) {
  Grid out;
  const std::array<int, 2> extents{input.height, input.width};
  for (std::size_t axis = 0; axis < 2; ++axis) {
    const auto& strides = axis == 0 ? m.height_strides : m.width_strides;
    const auto& offsets = axis == 0 ? m.height_offsets : m.width_offsets;
    out.stride[axis] = strides.empty() ? static_cast<float>(extents[axis]) /
                                             static_cast<float>(type.dims.at(axis + 2).constant())
                                       : strides[map];
    out.offset[axis] = offsets.empty() ? 0.5f : offsets[map] / out.stride[axis];
  }
  return out;
}

// Adds a map's anchors to the op's lists.
void add_anchors(DetectAnchors& op, const std::vector<std::array<float, 2>>& extents, const Grid& grid) {
  op.level_anchors.push_back(static_cast<int>(extents.size()));
  for (std::size_t axis = 0; axis < 2; ++axis) {
    op.strides.push_back(grid.stride[axis]);
    op.offsets.push_back(grid.offset[axis]);
  }
  for (const auto& [height, width] : extents)
    for (const float corner : {-width / 2, -height / 2, width / 2, height / 2}) op.cells.push_back(corner);
}

}  // namespace

std::vector<std::vector<std::array<float, 2>>> anchor_extents(const SsdAnchors& m, int height, int width) {
  std::vector<std::vector<std::array<float, 2>>> out;
  // Ratios are width / height.
  const auto extent = [](double scale, double ratio, double base_height, double base_width) {
    return std::array<float, 2>{static_cast<float>(scale / std::sqrt(ratio) * base_height),
                                static_cast<float>(scale * std::sqrt(ratio) * base_width)};
  };
  if (m.multiscale) {
    for (int level = m.min_level; level <= m.max_level; ++level) {
      auto& cell = out.emplace_back();
      const double base = std::ldexp(m.anchor_scale, level);
      for (const float ratio : m.ratios)
        for (int i = 0; i < m.scales_per_octave; ++i)
          cell.push_back(extent(std::exp2(static_cast<double>(i) / m.scales_per_octave), ratio, base, base));
    }
    return out;
  }
  // Scales are fractions of the shorter side.
  const double side = std::min(height, width);
  const double base_height = side * m.base_height, base_width = side * m.base_width;
  for (int map = 0; map < m.levels(); ++map) {
    auto& cell = out.emplace_back();
    const double scale = m.scales.at(static_cast<std::size_t>(map));
    const double next = m.scales.at(static_cast<std::size_t>(map) + 1);
    if (map == 0 && m.reduce_lowest) {
      for (const auto& [s, ratio] : {std::pair{0.1, 1.0}, {scale, 2.0}, {scale, 0.5}})
        cell.push_back(extent(s, ratio, base_height, base_width));
      continue;
    }
    for (const float ratio : m.ratios) cell.push_back(extent(scale, ratio, base_height, base_width));
    if (m.interpolated_ratio > 0)
      cell.push_back(extent(std::sqrt(scale * next), m.interpolated_ratio, base_height, base_width));
  }
  return out;
}

void ssd(Net& net, const Ssd& m) {
  const NetworkInput input = photo_input(net, m);
  const Features features = trunk(net, m.trunk, input.image);
  const Features maps = feature_maps(net, m, features);
  const auto extents = anchor_extents(m.anchors, m.input.height, m.input.width);
  check(extents.size() == maps.size(), "tfod: anchors for {} of {} maps", extents.size(), maps.size());
  for (const Feature& map : maps)
    require(
        !m.heads.shared || net.channels(map.value) == net.channels(maps.front().value),
        "weight_shared_convolutional_box_predictor: feature maps of {} and {} channels are not supported: it "
        "would project them first",
        net.channels(maps.front().value), net.channels(map.value));

  DetectAnchors detect = m.detect;
  std::vector<ValueId> inputs;
  const SeparateHeads separate(net, m.heads);
  const SharedHeads shared(net, m.heads);
  for (std::size_t i = 0; i < maps.size(); ++i) {
    const ValueId map = net.stage(fmt::format("feature_maps_{}", i), maps[i].value);
    const int anchors = static_cast<int>(extents[i].size());
    const Columns columns{anchors * 4, anchors * (m.classes + (m.background ? 1 : 0))};
    const Predicted predicted = m.heads.shared ? shared(i, map, columns) : separate(i, map, columns);
    add_anchors(detect, extents[i],
                m.anchors.multiscale ? multiscale_grid(m.anchors.min_level + static_cast<int>(i), m.input)
                                     : map_grid(m.anchors, i, m.input, net.type(map)));
    inputs.push_back(net.stage(fmt::format("class_predictions_with_background_{}", i), predicted.classes));
    inputs.push_back(net.stage(fmt::format("box_encodings_{}", i), predicted.boxes));
  }
  inputs.push_back(input.geometry);
  const auto found = net.add_all(std::move(detect), std::move(inputs), "detections");
  net.stage("det_anchor_indices", found.at(3));
  photo_outputs(net, stage_detections(net, {found[0], found[1], found[2]}), {}, input.geometry, true);
}

}  // namespace osprey::tfod
