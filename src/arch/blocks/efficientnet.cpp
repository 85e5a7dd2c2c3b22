#include "arch/blocks/efficientnet.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "arch/blocks/tf_layers.h"
#include "ops/add.h"
#include "ops/global_average_pool.h"
#include "ops/scale_channels.h"

namespace osprey {
namespace {

struct Scaling {
  std::string_view name;
  double width, depth;
  bool lite = false;
};

constexpr Scaling kScalings[]{
    {"efficientnet-b0", 1.0, 1.0},          {"efficientnet-b1", 1.0, 1.1},
    {"efficientnet-b2", 1.1, 1.2},          {"efficientnet-b3", 1.2, 1.4},
    {"efficientnet-b4", 1.4, 1.8},          {"efficientnet-b5", 1.6, 2.2},
    {"efficientnet-b6", 1.8, 2.6},          {"efficientnet-b7", 2.0, 3.1},
    {"efficientnet-b8", 2.2, 3.6},          {"efficientnet-l2", 4.3, 5.3},
    {"efficientnet-lite0", 1.0, 1.0, true}, {"efficientnet-lite1", 1.0, 1.1, true},
    {"efficientnet-lite2", 1.1, 1.2, true}, {"efficientnet-lite3", 1.2, 1.4, true},
    {"efficientnet-lite4", 1.4, 1.8, true},
};

// Blocks of one width, of which the first has the stride; before scaling.
struct Stage {
  int repeats, kernel, stride, expand, out;
};

constexpr int kStemChannels = 32;
constexpr std::array<Stage, 7> kStages{{{1, 3, 1, 1, 16},
                                        {2, 3, 2, 6, 24},
                                        {2, 5, 2, 6, 40},
                                        {3, 3, 2, 6, 80},
                                        {3, 5, 1, 6, 112},
                                        {4, 5, 2, 6, 192},
                                        {1, 3, 1, 6, 320}}};

struct Block {
  int kernel = 3, stride = 1, expand = 1;
  int in = 0, out = 0;            // channels as the scaling has them
  std::size_t stage = 0;          // of kStages
  int repeat = 0;                 // within the stage
  std::optional<int> level = {};  // of which the block gives the map
};

// A level ends before the stage that halves the map again. Its map is that of the stage's last block, or of
// the block that is the last one before any is repeated more often.
bool ends_level(const EfficientNet& m, const Block& block, int repeats) {
  const bool halved_next = block.stage + 1 == kStages.size() || kStages[block.stage + 1].stride == 2;
  return halved_next && block.repeat + 1 == (m.tf_models ? kStages[block.stage].repeats : repeats);
}

// Up to the one that gives the deepest map.
std::vector<Block> blocks_of(const EfficientNet& m) {
  std::vector<Block> out;
  int in = scaled_channels(kStemChannels, m.width);
  int level = 0;
  for (std::size_t s = 0; s < kStages.size(); ++s) {
    const Stage& stage = kStages[s];
    const bool fixed = m.lite && (s == 0 || s + 1 == kStages.size());
    const int repeats = fixed ? stage.repeats : static_cast<int>(std::ceil(m.depth * stage.repeats));
    for (int r = 0; r < repeats; ++r) {
      const int channels = scaled_channels(stage.out, m.width);
      Block block{stage.kernel, r == 0 ? stage.stride : 1, stage.expand, in, channels, s, r};
      if (ends_level(m, block, repeats)) block.level = ++level;
      out.push_back(block);
      in = channels;
    }
  }
  while (!out.back().level) out.pop_back();
  return out;
}

// The layers of a block that have weights.
struct BlockNames {
  std::string at;  // before the names of its other layers
  std::string expand, expand_norm, depthwise, depthwise_norm, reduce, excite, project, project_norm;
};

BlockNames automl_names(const std::string& at, bool expands) {
  const std::string conv = at + "conv2d", norm = at + "tpu_batch_normalization", squeeze = at + "se/conv2d";
  return {.at = at,
          .expand = conv,
          .expand_norm = norm,
          .depthwise = at + "depthwise_conv2d",
          .depthwise_norm = norm + (expands ? "_1" : ""),
          .reduce = squeeze,
          .excite = squeeze + "_1",
          .project = conv + (expands ? "_1" : ""),
          .project_norm = norm + (expands ? "_2" : "_1")};
}

BlockNames tf_models_names(const std::string& at) {
  return {.at = at,
          .expand = at + "expand_conv2d",
          .expand_norm = at + "expand_bn",
          .depthwise = at + "depthwise_conv2d",
          .depthwise_norm = at + "depthwise_bn",
          .reduce = at + "se_reduce_conv2d",
          .excite = at + "se_expand_conv2d",
          .project = at + "project_conv2d",
          .project_norm = at + "project_bn"};
}

BlockNames names_of(const EfficientNet& m, const Block& block, std::size_t index) {
  if (m.tf_models)
    return tf_models_names(fmt::format("{}stack_{}/block_{}/", m.prefix, block.stage, block.repeat));
  return automl_names(fmt::format("{}blocks_{}/", m.prefix, index), block.expand != 1);
}

ValueId squeeze_and_excite(Net& net, const BlockNames& names, ValueId x, int squeezed, Activation kind) {
  const ValueId mean = net.add(GlobalAveragePool{}, {x}, names.at + "se/mean");
  const auto channels = static_cast<int>(net.channels(x));
  const ValueId narrow = tf_activate(net, names.reduce, tf_dense(net, names.reduce, mean, squeezed), kind);
  const ValueId gates =
      tf_activate(net, names.excite, tf_dense(net, names.excite, narrow, channels), Activation::kSigmoid);
  return net.add(ScaleChannels{}, {x, gates}, names.at + "se/scale");
}

ValueId normed(Net& net, const std::string& name, ValueId x) {
  return tf_batch_norm(net, name, x, {.exact_factor = true});
}

ValueId inverted_bottleneck(Net& net, const BlockNames& names, const EfficientNet& m, const Block& block,
                            ValueId input) {
  ValueId x = input;
  if (block.expand != 1) {
    x = normed(net, names.expand_norm, tf_conv(net, names.expand, x, {.out = block.in * block.expand}));
    x = tf_activate(net, names.expand, x, m.activation);
  }
  const TfConv depthwise{.kernel = block.kernel, .stride = block.stride};
  x = normed(net, names.depthwise_norm, tf_depthwise_conv(net, names.depthwise, x, depthwise));
  x = tf_activate(net, names.depthwise, x, m.activation);
  if (!m.lite) x = squeeze_and_excite(net, names, x, std::max(1, block.in / 4), m.activation);
  x = normed(net, names.project_norm, tf_conv(net, names.project, x, {.out = block.out}));
  if (block.stride == 1 && block.in == block.out) x = net.add(Add{}, {x, input}, names.at + "add");
  return x;
}

}  // namespace

std::optional<EfficientNet> official_efficientnet(std::string_view name) {
  const auto* it = std::find_if(std::begin(kScalings), std::end(kScalings),
                                [&](const Scaling& s) { return s.name == name; });
  if (it == std::end(kScalings)) return std::nullopt;
  return EfficientNet{
      .prefix = std::string(name) + "/", .width = it->width, .depth = it->depth, .lite = it->lite};
}

int scaled_channels(int channels, double width) {
  constexpr int kMultiple = 8;
  const double wanted = channels * width;
  const int rounded = std::max(kMultiple, static_cast<int>(wanted + kMultiple / 2.0) / kMultiple * kMultiple);
  return rounded < 0.9 * wanted ? rounded + kMultiple : rounded;
}

Features efficientnet(Net& net, const EfficientNet& m, ValueId image) {
  const std::string stem = m.prefix + "stem", separator = m.tf_models ? "_" : "/";
  const std::string norm = stem + separator + (m.tf_models ? "bn" : "tpu_batch_normalization");
  const int channels = m.lite ? kStemChannels : scaled_channels(kStemChannels, m.width);
  ValueId x = tf_conv(net, stem + separator + "conv2d", image, {.out = channels, .kernel = 3, .stride = 2});
  x = tf_activate(net, stem, normed(net, norm, x), m.activation);
  const std::vector<Block> blocks = blocks_of(m);
  Features levels;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    x = inverted_bottleneck(net, names_of(m, blocks[i], i), m, blocks[i], x);
    if (!blocks[i].level) continue;
    const std::string name = fmt::format("backbone_level{}", *blocks[i].level);
    levels.push_back({name, net.stage(name, x), 1 << *blocks[i].level});
  }
  return levels;
}

}  // namespace osprey
