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
  int in = 0, out = 0;  // channels as the scaling has them
};

std::vector<Block> blocks_of(const EfficientNet& m) {
  std::vector<Block> out;
  int in = scaled_channels(kStemChannels, m.width);
  for (std::size_t s = 0; s < kStages.size(); ++s) {
    const Stage& stage = kStages[s];
    const bool fixed = m.lite && (s == 0 || s + 1 == kStages.size());
    const int repeats = fixed ? stage.repeats : static_cast<int>(std::ceil(m.depth * stage.repeats));
    for (int r = 0; r < repeats; ++r) {
      const int channels = scaled_channels(stage.out, m.width);
      out.push_back({stage.kernel, r == 0 ? stage.stride : 1, stage.expand, in, channels});
      in = channels;
    }
  }
  return out;
}

// "conv2d", "conv2d_1", ...: the layers of one kind in a block, in the order they are made.
class Numbered {
 public:
  explicit Numbered(std::string name) : name_(std::move(name)) {}
  std::string next() {
    const int n = made_++;
    return n == 0 ? name_ : fmt::format("{}_{}", name_, n);
  }

 private:
  std::string name_;
  int made_ = 0;
};

ValueId squeeze_and_excite(Net& net, const std::string& prefix, ValueId x, int squeezed, Activation kind) {
  const ValueId mean = net.add(GlobalAveragePool{}, {x}, prefix + "mean");
  const std::string reduce = prefix + "conv2d", expand = prefix + "conv2d_1";
  const auto channels = static_cast<int>(net.channels(x));
  const ValueId narrow = tf_activate(net, reduce, tf_dense(net, reduce, mean, squeezed), kind);
  const ValueId gates =
      tf_activate(net, expand, tf_dense(net, expand, narrow, channels), Activation::kSigmoid);
  return net.add(ScaleChannels{}, {x, gates}, prefix + "scale");
}

ValueId inverted_bottleneck(Net& net, const std::string& prefix, const EfficientNet& m, const Block& block,
                            ValueId input) {
  Numbered convs(prefix + "conv2d"), norms(prefix + "tpu_batch_normalization");
  const auto normed = [&](ValueId x) { return tf_batch_norm(net, norms.next(), x, {.exact_factor = true}); };
  ValueId x = input;
  if (block.expand != 1) {
    const std::string name = convs.next();
    x = normed(tf_conv(net, name, x, {.out = block.in * block.expand}));
    x = tf_activate(net, name, x, m.activation);
  }
  const std::string depthwise = prefix + "depthwise_conv2d";
  x = normed(tf_depthwise_conv(net, depthwise, x, {.kernel = block.kernel, .stride = block.stride}));
  x = tf_activate(net, depthwise, x, m.activation);
  if (!m.lite) x = squeeze_and_excite(net, prefix + "se/", x, std::max(1, block.in / 4), m.activation);
  x = normed(tf_conv(net, convs.next(), x, {.out = block.out}));
  if (block.stride == 1 && block.in == block.out) x = net.add(Add{}, {x, input}, prefix + "add");
  return x;
}

}  // namespace

std::optional<EfficientNet> official_efficientnet(std::string_view name) {
  const auto* it = std::find_if(std::begin(kScalings), std::end(kScalings),
                                [&](const Scaling& s) { return s.name == name; });
  if (it == std::end(kScalings)) return std::nullopt;
  return EfficientNet{.name = std::string(name), .width = it->width, .depth = it->depth, .lite = it->lite};
}

std::vector<std::string> official_efficientnets() {
  std::vector<std::string> out;
  for (const Scaling& s : kScalings) out.emplace_back(s.name);
  return out;
}

int scaled_channels(int channels, double width) {
  constexpr int kMultiple = 8;
  const double wanted = channels * width;
  const int rounded = std::max(kMultiple, static_cast<int>(wanted + kMultiple / 2.0) / kMultiple * kMultiple);
  return rounded < 0.9 * wanted ? rounded + kMultiple : rounded;
}

Features efficientnet(Net& net, const EfficientNet& m, ValueId image) {
  const std::string prefix = m.name + "/";
  const int stem = m.lite ? kStemChannels : scaled_channels(kStemChannels, m.width);
  ValueId x = tf_conv(net, prefix + "stem/conv2d", image, {.out = stem, .kernel = 3, .stride = 2});
  x = tf_activate(net, prefix + "stem",
                  tf_batch_norm(net, prefix + "stem/tpu_batch_normalization", x, {.exact_factor = true}),
                  m.activation);
  const std::vector<Block> blocks = blocks_of(m);
  Features levels;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    x = inverted_bottleneck(net, fmt::format("{}blocks_{}/", prefix, i), m, blocks[i], x);
    if (i + 1 < blocks.size() && blocks[i + 1].stride == 1) continue;
    const std::size_t level = levels.size() + 1;
    const std::string name = fmt::format("backbone_level{}", level);
    levels.push_back({name, net.stage(name, x), 1 << level});
  }
  return levels;
}

}  // namespace osprey
