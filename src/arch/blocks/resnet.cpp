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

ValueId residual(Net& net, const std::string& name, ValueId x, ValueId y, const Block& b) {
  if (net.channels(x) != b.out)
    x = conv(net, name + ".shortcut", x, {.out = b.out, .stride = b.stride, .batch_norm = true});
  return relu(net, name, net.add(Add{}, {y, x}, name + ".add"));
}

ValueId bottleneck(Net& net, const std::string& name, const ResNet& m, const Block& b, ValueId x) {
  ValueId y =
      conv(net, name + ".conv1", x,
           {.out = b.middle, .stride = m.stride_in_1x1 ? b.stride : 1, .batch_norm = true, .relu = true});
  y = conv(net, name + ".conv2", y,
           {.out = b.middle,
            .kernel = 3,
            .stride = m.stride_in_1x1 ? 1 : b.stride,
            .dilation = b.dilation,
            .groups = m.groups,
            .batch_norm = true,
            .relu = true});
  y = conv(net, name + ".conv3", y, {.out = b.out, .batch_norm = true});
  return residual(net, name, x, y, b);
}

ValueId basic_block(Net& net, const std::string& name, const Block& b, ValueId x) {
  ValueId y = conv(net, name + ".conv1", x,
                   {.out = b.out, .kernel = 3, .stride = b.stride, .batch_norm = true, .relu = true});
  y = conv(net, name + ".conv2", y, {.out = b.out, .kernel = 3, .batch_norm = true});
  return residual(net, name, x, y, b);
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
    const std::string block_name = fmt::format("{}.{}", name, i);
    x = m.depth < 50 ? basic_block(net, block_name, block, x) : bottleneck(net, block_name, m, block, x);
  }
  return x;
}

Features resnet(Net& net, const std::string& prefix, const ResNet& m, ValueId image, int last) {
  ValueId x = conv(net, prefix + "stem.conv1", image,
                   {.out = m.stem_width, .kernel = 7, .stride = 2, .batch_norm = true, .relu = true});
  x = net.add(MaxPool{.kernel = {3, 3}, .stride = {2, 2}, .pads = {1, 1, 1, 1}}, {x},
              prefix + "stem.max_pool");
  int stride = 4;
  Features out{{"stem", net.stage("stem", x), stride}};
  for (int stage = 2; stage <= last; ++stage) {
    const int first = stage == 2 || (stage == 5 && m.res5_dilation == 2) ? 1 : 2;
    const std::string name = fmt::format("res{}", stage);
    x = net.stage(name, resnet_stage(net, prefix + name, m, stage, first, x));
    stride *= first;
    out.push_back({name, x, stride});
  }
  return out;
}

}  // namespace osprey
