#include "arch/tfod/mobilenet.h"

#include <algorithm>
#include <array>

#include "ops/add.h"

namespace osprey::tfod {
namespace {

int at_least(int width, int least) { return std::max(width, least); }

// The nearest multiple of 8, but not less than nine tenths.
int round_to_eights(double width) {
  const int rounded = std::max(8, static_cast<int>(width + 4) / 8 * 8);
  return rounded < 0.9 * width ? rounded + 8 : rounded;
}

class Builder {
 public:
  Builder(Net& net, const std::string& prefix, const MobileNet& m) : net_(net), prefix_(prefix), m_(m) {}

  Features v1(ValueId x) const;
  Features v2(ValueId x) const;

 private:
  // Keras scales the widths, and the Object Detection API scales the result again.
  int v1_width(int width, bool overridden = false) const {
    const auto scaled = [&](int w) { return static_cast<int>(w * m_.depth_multiplier); };
    return at_least(scaled(overridden ? width : scaled(width)), m_.min_depth);
  }
  // Layers that widen have no least width.
  int v2_width(int width) const {
    return round_to_eights(static_cast<int>(static_cast<float>(width) * m_.depth_multiplier));
  }
  ValueId activate_norm(const std::string& name, ValueId x) const {
    return norm_and_activate(net_, prefix_ + name, x, m_.layers);
  }
  ValueId plain_norm(const std::string& name, ValueId x) const {
    return m_.layers.norm ? tf_batch_norm(net_, prefix_ + name, x, *m_.layers.norm) : x;
  }
  ValueId conv(const std::string& name, ValueId x, const TfConv& layer) const {
    return tf_conv(net_, prefix_ + name, x, layer);
  }
  ValueId depthwise(const std::string& name, ValueId x, int stride) const {
    return tf_depthwise_conv(net_, prefix_ + name, x, {.kernel = 3, .stride = stride});
  }
  // `nominal`: its width before the least one is applied. With `expansion`, the widened map is given there.
  ValueId inverted_residual(const std::string& name, ValueId x, int nominal, int stride, bool expand,
                            ValueId* expansion = nullptr) const;

  Net& net_;
  const std::string& prefix_;
  const MobileNet& m_;
};

Features Builder::v1(ValueId x) const {
  Features out;
  struct Block {
    int width, stride;
  };
  constexpr std::array<Block, 13> kBlocks{{{64, 1},
                                           {128, 2},
                                           {128, 1},
                                           {256, 2},
                                           {256, 1},
                                           {512, 2},
                                           {512, 1},
                                           {512, 1},
                                           {512, 1},
                                           {512, 1},
                                           {512, 1},
                                           {1024, 2},
                                           {1024, 1}}};
  x = activate_norm("conv1_bn", conv("conv1", x, {.out = v1_width(32), .kernel = 3, .stride = 2}));
  int stride = 2;
  for (int i = 1; i <= 13; ++i) {
    const Block& block = kBlocks.at(static_cast<std::size_t>(i - 1));
    const bool narrow = m_.narrow_top && i >= 12;
    const int width = narrow ? v1_width(i == 12 ? 512 : 256, true) : v1_width(block.width);
    const std::string dw = fmt::format("conv_dw_{}", i), pw = fmt::format("conv_pw_{}", i);
    x = activate_norm(dw + "_bn", depthwise(dw, x, block.stride));
    x = activate_norm(pw + "_bn", conv(pw, x, {.out = width}));
    stride *= block.stride;
    if (i == 3 || i == 5 || i == 11 || i == 13)
      out.push_back({fmt::format("level{}", out.size() + 2), x, stride});
  }
  return out;
}

ValueId Builder::inverted_residual(const std::string& name, ValueId x, int nominal, int stride, bool expand,
                                   ValueId* expansion) const {
  const std::int64_t in = net_.channels(x);
  ValueId y = x;
  if (expand) {
    y = activate_norm(name + "_expand_BN", conv(name + "_expand", y, {.out = static_cast<int>(in) * 6}));
    if (expansion) *expansion = y;
  }
  y = activate_norm(name + "_depthwise_BN", depthwise(name + "_depthwise", y, stride));
  y = plain_norm(name + "_project_BN", conv(name + "_project", y, {.out = at_least(nominal, m_.min_depth)}));
  return in == nominal && stride == 1 ? net_.add(Add{}, {x, y}, prefix_ + name + "_add") : y;
}

Features Builder::v2(ValueId x) const {
  Features out;
  struct Stage {
    int width, blocks, stride;
  };
  constexpr std::array<Stage, 6> kStages{
      {{24, 2, 2}, {32, 3, 2}, {64, 4, 2}, {96, 3, 1}, {160, 3, 2}, {320, 1, 1}}};
  const int stem = at_least(round_to_eights(32 * m_.depth_multiplier), m_.min_depth);
  x = activate_norm("bn_Conv1", conv("Conv1", x, {.out = stem, .kernel = 3, .stride = 2}));
  x = inverted_residual("expanded_conv", x, v2_width(16), 1, false);
  ValueId expansion = kNoValue;
  int index = 1;
  for (const Stage& stage : kStages) {
    for (int i = 0; i < stage.blocks; ++i, ++index) {
      const std::string name = fmt::format("block_{}", index);
      x = inverted_residual(name, x, v2_width(stage.width), i == 0 ? stage.stride : 1, true,
                            index == 13 ? &expansion : nullptr);
      if (index == 2) out.push_back({"level2", x, 4});
      if (index == 5) out.push_back({"level3", x, 8});
      if (index == 12) out.push_back({"level4", x, 16});
    }
  }
  // The last layer narrows with the multiplier, but does not widen.
  const int top = m_.depth_multiplier < 1 ? round_to_eights(1280 * m_.depth_multiplier) : 1280;
  x = activate_norm("Conv_1_bn", conv("Conv_1", x, {.out = at_least(top, m_.min_depth)}));
  out.push_back({"level5", x, 32});
  out.push_back({"expansion", expansion, 16});
  return out;
}

}  // namespace

Features mobilenet(Net& net, const std::string& prefix, const MobileNet& m, ValueId image) {
  const Builder builder(net, prefix, m);
  return m.version == 1 ? builder.v1(image) : builder.v2(image);
}

}  // namespace osprey::tfod
