#include "arch/paddle/resnet_vd.h"

#include <algorithm>
#include <array>
#include <map>

#include "arch/paddle/layers.h"
#include "ops/add.h"
#include "ops/average_pool.h"
#include "ops/max_pool.h"

namespace osprey::paddle {
namespace {

int block_count(int depth, int stage) {
  static const std::map<int, std::array<int, 4>> kBlocks{
      {18, {2, 2, 2, 2}}, {34, {3, 4, 6, 3}}, {50, {3, 4, 6, 3}}, {101, {3, 4, 23, 3}}, {152, {3, 8, 36, 3}}};
  const auto it = kBlocks.find(depth);
  require(it != kBlocks.end(), "ResNet.depth: {} is not known (18, 34, 50, 101, 152 are)", depth);
  return it->second.at(static_cast<std::size_t>(stage));
}

// "res2a", "res2b", ...; in a res4 of more than ten blocks "res4a", "res4b1", "res4b2", ...
std::string block_name(int stage, int count, int block) {
  const std::string name = fmt::format("res{}", stage + 2);
  if (count > 10 && stage == 2 && block > 0) return fmt::format("{}b{}", name, block);
  return name + static_cast<char>('a' + block);
}

ConvNorm layer(int out, int kernel, int stride, LayerActivation kind = LayerActivation::kRelu) {
  return {.out = out, .kernel = kernel, .stride = stride, .activation = kind, .norm = ".norm"};
}

struct Block {
  int width = 64;  // of its 3x3
  int stride = 1;
  bool bottleneck = true, first = false;

  int out() const { return bottleneck ? 4 * width : width; }
};

ValueId shortcut(Net& net, const std::string& name, const Block& b, ValueId x) {
  if (!b.first) return x;
  const ConvNorm point = layer(b.out(), 1, 1, LayerActivation::kNone);
  if (b.stride == 1) return conv_norm(net, name + ".short", x, point);
  const AveragePool halve{.kernel = {2, 2}, .stride = {2, 2}, .padding = Padding::kSame};
  return conv_norm(net, name + ".short.conv", net.add(halve, {x}, name + ".short.pool"), point);
}

ValueId residual_block(Net& net, const std::string& name, const Block& b, ValueId x) {
  ValueId y = x;
  if (b.bottleneck) {
    y = conv_norm(net, name + ".branch2a", y, layer(b.width, 1, 1));
    y = conv_norm(net, name + ".branch2b", y, layer(b.width, 3, b.stride));
    y = conv_norm(net, name + ".branch2c", y, layer(b.out(), 1, 1, LayerActivation::kNone));
  } else {
    y = conv_norm(net, name + ".branch2a", y, layer(b.width, 3, b.stride));
    y = conv_norm(net, name + ".branch2b", y, layer(b.out(), 3, 1, LayerActivation::kNone));
  }
  const ValueId sum = net.add(Add{}, {y, shortcut(net, name, b, x)}, name + ".add");
  return activation(net, name, sum, LayerActivation::kRelu);
}

ValueId stem(Net& net, ValueId image) {
  ValueId x = conv_norm(net, "backbone.conv1.conv1_1", image, layer(32, 3, 2));
  x = conv_norm(net, "backbone.conv1.conv1_2", x, layer(32, 3, 1));
  x = conv_norm(net, "backbone.conv1.conv1_3", x, layer(64, 3, 1));
  return net.add(MaxPool{.kernel = {3, 3}, .stride = {2, 2}, .pads = {1, 1, 1, 1}}, {x}, "backbone.pool1");
}

}  // namespace

Features resnet_vd(Net& net, const ResNetVd& m, ValueId image, const std::vector<int>& stages) {
  ValueId x = net.stage("backbone.stem", stem(net, image));
  Features out;
  for (int stage = 0; stage <= stages.back(); ++stage) {
    const int count = block_count(m.depth, stage);
    for (int b = 0; b < count; ++b)
      x = residual_block(net, fmt::format("backbone.res{}.{}", stage + 2, block_name(stage, count, b)),
                         {.width = 64 << stage,
                          .stride = b == 0 && stage > 0 ? 2 : 1,
                          .bottleneck = m.depth >= 50,
                          .first = b == 0},
                         x);
    net.stage(fmt::format("backbone.stage{}", stage + 1), x);
    if (std::find(stages.begin(), stages.end(), stage) != stages.end())
      out.push_back({fmt::format("res{}", stage + 2), x, 4 << stage});
  }
  return out;
}

}  // namespace osprey::paddle
