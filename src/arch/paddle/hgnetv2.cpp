#include "arch/paddle/hgnetv2.h"

#include <algorithm>
#include <map>

#include "arch/paddle/layers.h"
#include "ops/add.h"
#include "ops/concat.h"
#include "ops/max_pool.h"

namespace osprey::paddle {
namespace {

// The 2x2 layers of the stem keep the extents by a row below and a column on the right.
const std::vector<int> kBelowAndRight{0, 0, 1, 1};

class Builder {
 public:
  Builder(Net& net, const HgNetV2& m) : net_(net), m_(m) {}

  ValueId stem(ValueId image) {
    const std::string name = "backbone.stem.stem";
    const int middle = m_.stem_middle;
    const ValueId x = relu_layer(name + "1", image, {.out = middle, .kernel = 3, .stride = 2});
    ValueId branch = relu_layer(name + "2a", x, {.out = middle / 2, .kernel = 2, .pads = kBelowAndRight});
    branch = relu_layer(name + "2b", branch, {.out = middle, .kernel = 2, .pads = kBelowAndRight});
    const MaxPool pool{.kernel = {2, 2}, .stride = {1, 1}, .pads = kBelowAndRight};
    const ValueId both =
        net_.add(Concat{}, {net_.add(pool, {x}, "backbone.stem.pool"), branch}, "backbone.stem.concat");
    const ValueId y = relu_layer(name + "3", both, {.out = middle, .kernel = 3, .stride = 2});
    return relu_layer(name + "4", y, {.out = m_.stem_out});
  }

  ValueId stage(int number, ValueId x) {
    const HgStage& s = m_.stages[static_cast<std::size_t>(number)];
    const std::string name = fmt::format("backbone.stages.{}", number);
    if (number > 0) {
      const int channels = static_cast<int>(net_.channels(x));
      x = conv_norm(net_, name + ".downsample", x,
                    {.out = channels, .kernel = 3, .stride = 2, .groups = channels});
      net_.stage(fmt::format("backbone.stage{}.downsample", number + 1), x);
    }
    for (int b = 0; b < s.blocks; ++b)
      x = block(fmt::format("{}.blocks.{}", name, b), s, number >= 2, b > 0, x);
    return net_.stage(fmt::format("backbone.stage{}", number + 1), x);
  }

 private:
  ValueId relu_layer(const std::string& name, ValueId x, ConvNorm layer) {
    layer.activation = LayerActivation::kRelu;
    layer.affine = m_.affine;
    return conv_norm(net_, name, x, layer);
  }

  // Its input and the results of its layers, all together, are squeezed and spread again.
  ValueId block(const std::string& name, const HgStage& s, bool light, bool residual, ValueId x) {
    std::vector<ValueId> all{x};
    for (int l = 0; l < m_.layers; ++l) {
      const std::string layer = fmt::format("{}.layers.{}", name, l);
      all.push_back(light ? light_layer(layer, all.back(), s.middle)
                          : relu_layer(layer, all.back(), {.out = s.middle, .kernel = 3}));
    }
    ValueId y = net_.add(Concat{}, all, name + ".concat");
    y = relu_layer(name + ".aggregation_squeeze_conv", y, {.out = s.out / 2});
    y = relu_layer(name + ".aggregation_excitation_conv", y, {.out = s.out});
    return residual ? net_.add(Add{}, {y, x}, name + ".add") : y;
  }

  ValueId light_layer(const std::string& name, ValueId x, int width) {
    const ValueId point = conv_norm(net_, name + ".conv1", x, {.out = width});
    return relu_layer(name + ".conv2", point, {.out = width, .kernel = 5, .groups = width});
  }

  Net& net_;
  const HgNetV2& m_;
};

}  // namespace

const HgNetV2* find_hgnetv2(const std::string& arch) {
  static const std::map<std::string, HgNetV2> kArchs{
      {"S", {24, 32, 3, {{{32, 64, 1}, {48, 256, 1}, {96, 512, 2}, {192, 1024, 1}}}}},
      {"M", {24, 32, 4, {{{32, 96, 1}, {64, 384, 1}, {128, 768, 3}, {256, 1536, 1}}}}},
      {"L", {32, 48, 6, {{{48, 128, 1}, {96, 512, 1}, {192, 1024, 3}, {384, 2048, 1}}}}},
      {"X", {32, 64, 6, {{{64, 128, 1}, {128, 512, 2}, {256, 1024, 5}, {512, 2048, 2}}}}},
      {"H", {48, 96, 6, {{{96, 192, 2}, {192, 512, 3}, {384, 1024, 6}, {768, 2048, 3}}}}}};
  const auto it = kArchs.find(arch);
  return it == kArchs.end() ? nullptr : &it->second;
}

Features hgnetv2(Net& net, const HgNetV2& m, ValueId image, const std::vector<int>& stages) {
  Builder builder(net, m);
  ValueId x = net.stage("backbone.stem", builder.stem(image));
  Features out;
  for (int number = 0; number <= stages.back(); ++number) {
    x = builder.stage(number, x);
    if (std::find(stages.begin(), stages.end(), number) != stages.end())
      out.push_back({fmt::format("stage{}", number + 1), x, 4 << number});
  }
  return out;
}

}  // namespace osprey::paddle
