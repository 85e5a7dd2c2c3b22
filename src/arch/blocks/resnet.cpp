#include "arch/blocks/resnet.h"

#include <array>

#include "arch/blocks/layers.h"
#include "ops/add.h"
#include "ops/max_pool.h"

namespace osprey {
namespace {

int block_count(int depth, int stage) {
  static const std::map<int, std::array<int, 4>> kBlocks{
      {18, {2, 2, 2, 2}}, {34, {3, 4, 6, 3}}, {50, {3, 4, 6, 3}}, {101, {3, 4, 23, 3}}, {152, {3, 8, 36, 3}}};
  const auto it = kBlocks.find(depth);
  require(it != kBlocks.end(), "a ResNet of depth {} is not known (18, 34, 50, 101, 152 are)", depth);
  return it->second.at(static_cast<std::size_t>(stage - 2));
}

struct Block {
  int out = 0, middle = 0, stride = 1, dilation = 1;
};

// The layers of one block, under its name.
class BlockLayers {
 public:
  BlockLayers(Net& net, std::string name, const ResNet& m) : net_(net), name_(std::move(name)), m_(m) {}

  // The block's convolution of that number, from 1.
  ValueId conv(int number, ValueId x, ConvLayer layer) const {
    if (m_.torchvision_names) layer.norm = fmt::format("{}.bn{}", name_, number);
    return normed(fmt::format("{}.conv{}", name_, number), x, std::move(layer));
  }
  ValueId residual(ValueId x, ValueId y, const Block& b) const {
    if (net_.channels(x) != b.out) x = shortcut(x, {.out = b.out, .stride = b.stride});
    return relu(net_, name_, net_.add(Add{}, {y, x}, name_ + ".add"));
  }

 private:
  ValueId shortcut(ValueId x, ConvLayer layer) const {
    if (!m_.torchvision_names) return normed(name_ + ".shortcut", x, std::move(layer));
    layer.norm = name_ + ".downsample.1";
    return normed(name_ + ".downsample.0", x, std::move(layer));
  }
  ValueId normed(const std::string& name, ValueId x, ConvLayer layer) const {
    layer.batch_norm = !m_.group_norm.exists();
    layer.group_norm = m_.group_norm;
    layer.epsilon = m_.epsilon;
    return osprey::conv(net_, name, x, layer);
  }

  Net& net_;
  std::string name_;
  const ResNet& m_;
};

ValueId bottleneck(const BlockLayers& layers, const ResNet& m, const Block& b, ValueId x) {
  ValueId y = layers.conv(1, x, {.out = b.middle, .stride = m.stride_in_1x1 ? b.stride : 1, .relu = true});
  y = layers.conv(2, y,
                  {.out = b.middle,
                   .kernel = 3,
                   .stride = m.stride_in_1x1 ? 1 : b.stride,
                   .dilation = b.dilation,
                   .groups = m.groups,
                   .relu = true});
  y = layers.conv(3, y, {.out = b.out});
  return layers.residual(x, y, b);
}

ValueId basic_block(const BlockLayers& layers, const Block& b, ValueId x) {
  ValueId y = layers.conv(1, x, {.out = b.out, .kernel = 3, .stride = b.stride, .relu = true});
  y = layers.conv(2, y, {.out = b.out, .kernel = 3});
  return layers.residual(x, y, b);
}

}  // namespace

int resnet_width(const ResNet& m, int stage) { return m.res2_width << (stage - 2); }

ValueId resnet_stage(Net& net, const std::string& name, const ResNet& m, int stage, int first_stride,
                     ValueId x) {
  Block block{.out = resnet_width(m, stage),
              .middle = (m.groups * m.group_width) << (stage - 2),
              .stride = first_stride,
              .dilation = stage == 5 ? m.res5_dilation : 1};
  const int count = block_count(m.depth, stage);
  for (int i = 0; i < count; ++i, block.stride = 1) {
    const BlockLayers layers(net, fmt::format("{}.{}", name, i), m);
    x = m.depth < 50 ? basic_block(layers, block, x) : bottleneck(layers, m, block, x);
  }
  return x;
}

Features resnet(Net& net, const std::string& prefix, const ResNet& m, ValueId image, int last) {
  ValueId x = BlockLayers(net, prefix + "stem", m)
                  .conv(1, image, {.out = m.stem_width, .kernel = 7, .stride = 2, .relu = true});
  x = net.add(MaxPool{.kernel = {3, 3}, .stride = {2, 2}, .pads = {1, 1, 1, 1}}, {x},
              prefix + "stem.max_pool");
  int stride = 4;
  Features out{{"stem", net.stage("stem", x), stride}};
  for (int stage = 2; stage <= last; ++stage) {
    const int first = stage == 2 || (stage == 5 && m.res5_dilation == 2) ? 1 : 2;
    const std::string name = fmt::format("res{}", stage);
    const std::string in_file = m.torchvision_names ? fmt::format("layer{}", stage - 1) : name;
    x = net.stage(name, resnet_stage(net, prefix + in_file, m, stage, first, x));
    stride *= first;
    out.push_back({name, x, stride});
  }
  return out;
}

}  // namespace osprey
