#include "arch/tfod/resnet_v1.h"

#include <algorithm>
#include <array>

#include "ops/add.h"
#include "ops/max_pool.h"

namespace osprey {
namespace {

int block_count(int depth, int stage) {
  static const std::map<int, std::array<int, 4>> kBlocks{
      {50, {3, 4, 6, 3}}, {101, {3, 4, 23, 3}}, {152, {3, 8, 36, 3}}};
  const auto it = kBlocks.find(depth);
  require(it != kBlocks.end(), "a ResNet v1 of depth {} is not known (50, 101, 152 are)", depth);
  return it->second.at(static_cast<std::size_t>(stage - 2));
}

// "<name>_conv", of a width that is still to be scaled, and "<name>_bn".
ValueId conv_norm(Net& net, const std::string& name, const ResNetV1& m, ValueId x, TfConv layer) {
  layer.out = std::max(static_cast<int>(static_cast<float>(layer.out) * m.depth_multiplier), m.min_depth);
  layer.bias = m.keras;
  return tf_batch_norm(net, name + "_bn", tf_conv(net, name + "_conv", x, layer), m.norm);
}

struct Block {
  int width = 64, stride = 1;
  bool project = false;  // the shortcut is a convolution
};

ValueId bottleneck(Net& net, const std::string& name, const ResNetV1& m, const Block& b, ValueId x) {
  const auto layer = [&](const char* part, ValueId in, const TfConv& conv) {
    return conv_norm(net, name + part, m, in, conv);
  };
  const auto activated = [&](const char* part, ValueId in, const TfConv& conv) {
    return tf_activate(net, name + part, layer(part, in, conv), m.activation);
  };
  ValueId y = activated("_1", x, {.out = b.width, .stride = b.stride});
  y = activated("_2", y, {.out = b.width, .kernel = 3});
  y = layer("_3", y, {.out = 4 * b.width});
  const ValueId shortcut = b.project ? layer("_0", x, {.out = 4 * b.width, .stride = b.stride}) : x;
  return tf_activate(net, name + "_out", net.add(Add{}, {shortcut, y}, name + "_add"), m.activation);
}

}  // namespace

ValueId resnet_v1_stage(Net& net, const std::string& prefix, const ResNetV1& m, int stage, ValueId x) {
  const int count = block_count(m.depth, stage);
  for (int i = 1; i <= count; ++i) {
    const bool first = i == 1;
    const Block block{.width = 64 << (stage - 2), .stride = first && stage > 2 ? 2 : 1, .project = first};
    x = bottleneck(net, fmt::format("{}conv{}_block{}", prefix, stage, i), m, block, x);
  }
  return x;
}

Features resnet_v1(Net& net, const std::string& prefix, const ResNetV1& m, ValueId image, int last) {
  const std::string stem = prefix + "conv1";
  ValueId x = conv_norm(net, stem, m, image, {.out = 64, .kernel = 7, .stride = 2, .pad = 3});
  x = tf_activate(net, stem, x, m.activation);
  const std::string pool = prefix + "pool1_pool";
  // Nothing is below 0 there, which Keras pads with.
  x = m.keras ? net.add(MaxPool{.kernel = {3, 3}, .stride = {2, 2}, .pads = {1, 1, 1, 1}}, {x}, pool)
              : tf_max_pool(net, pool, x, 3, 2);
  Features out;
  for (int stage = 2, stride = 4; stage <= last; ++stage, stride *= 2) {
    x = resnet_v1_stage(net, prefix, m, stage, x);
    out.push_back({fmt::format("conv{}", stage), x, stride});
  }
  return out;
}

}  // namespace osprey
