#include "arch/tfod/inception_resnet_v2.h"

#include "arch/blocks/tf_layers.h"
#include "ops/add.h"
#include "ops/average_pool.h"
#include "ops/concat.h"
#include "ops/scale.h"

namespace osprey {
namespace {

struct Residual {
  const char* type;  // "block35"
  int index;
  float scale;
  bool activate = true;
};

// Layers are numbered as they are made, so the order of calls is that of Keras' code.
class Builder {
 public:
  Builder(Net& net, std::string prefix, int next) : net_(net), prefix_(std::move(prefix)), next_(next) {}

  ValueId conv(ValueId x, const TfConv& layer) {
    return named_conv(fmt::format("conv2d_{}", next_++), x, layer);
  }
  ValueId named_conv(const std::string& name, ValueId x, const TfConv& layer) {
    const std::string full = prefix_ + name;
    const ValueId y = tf_batch_norm(net_, full + "_bn", tf_conv(net_, full, x, layer), {.scale = false});
    return tf_activate(net_, full, y, Activation::kRelu);
  }
  ValueId max_pool(const std::string& name, ValueId x) { return tf_max_pool(net_, prefix_ + name, x, 3, 2); }
  ValueId average_pool(const std::string& name, ValueId x) {
    return net_.add(AveragePool{.kernel = {3, 3}, .stride = {1, 1}, .padding = Padding::kSame}, {x},
                    prefix_ + name);
  }
  ValueId concat(const std::string& name, std::vector<ValueId> branches) {
    return net_.add(Concat{}, std::move(branches), prefix_ + name);
  }

  // x + scale * up(branches), where `up` is a 1x1 convolution back to x's channels, with bias.
  ValueId residual(const Residual& block, ValueId x, std::vector<ValueId> branches) {
    const std::string name = fmt::format("{}_{}", block.type, block.index), full = prefix_ + name;
    const ValueId mixed = concat(name + "_mixed", std::move(branches));
    const ValueId up =
        tf_conv(net_, full + "_conv", mixed, {.out = static_cast<int>(net_.channels(x)), .bias = true});
    const ValueId scaled = net_.add(Scale{.factor = block.scale}, {up}, full + "_scale");
    x = net_.add(Add{}, {x, scaled}, full);
    return block.activate ? tf_activate(net_, full, x, Activation::kRelu) : x;
  }

 private:
  Net& net_;
  std::string prefix_;
  int next_;
};

// Windows of one pixel, three by three, and three by three with stride 2.
TfConv one(int out) { return {.out = out}; }
TfConv three(int out) { return {.out = out, .kernel = 3}; }
TfConv halving(int out) { return {.out = out, .kernel = 3, .stride = 2}; }

ValueId stem(Builder& b, ValueId x) {
  x = b.conv(x, halving(32));
  x = b.conv(x, three(32));
  x = b.conv(x, three(64));
  x = b.max_pool("max_pooling2d_0", x);
  x = b.conv(x, one(80));
  x = b.conv(x, three(192));
  return b.max_pool("max_pooling2d_1", x);
}

ValueId mixed_5b(Builder& b, ValueId x) {
  const ValueId b0 = b.conv(x, one(96));
  ValueId b1 = b.conv(x, one(48));
  b1 = b.conv(b1, {.out = 64, .kernel = 5});
  ValueId b2 = b.conv(x, one(64));
  b2 = b.conv(b2, three(96));
  b2 = b.conv(b2, three(96));
  const ValueId pool = b.conv(b.average_pool("average_pooling2d", x), one(64));
  return b.concat("mixed_5b", {b0, b1, b2, pool});
}

ValueId block35(Builder& b, int index, ValueId x) {
  const ValueId b0 = b.conv(x, one(32));
  ValueId b1 = b.conv(x, one(32));
  b1 = b.conv(b1, three(32));
  ValueId b2 = b.conv(x, one(32));
  b2 = b.conv(b2, three(48));
  b2 = b.conv(b2, three(64));
  return b.residual({"block35", index, 0.17f}, x, {b0, b1, b2});
}

ValueId mixed_6a(Builder& b, ValueId x) {
  const ValueId b0 = b.conv(x, halving(384));
  ValueId b1 = b.conv(x, one(256));
  b1 = b.conv(b1, three(256));
  b1 = b.conv(b1, halving(384));
  return b.concat("mixed_6a", {b0, b1, b.max_pool("max_pooling2d_2", x)});
}

// The two forms of block whose second branch is a square window taken apart: block17 and block8.
struct Apart {
  int middle, row, column;  // channels of the 1x1, of the 1 x length and of the length x 1 convolution
  int length;
};

ValueId apart_block(Builder& b, const Residual& block, const Apart& m, ValueId x) {
  const ValueId b0 = b.conv(x, one(192));
  ValueId b1 = b.conv(x, one(m.middle));
  b1 = b.conv(b1, {.out = m.row, .kernel_width = m.length});
  b1 = b.conv(b1, {.out = m.column, .kernel = m.length, .kernel_width = 1});
  return b.residual(block, x, {b0, b1});
}

ValueId mixed_7a(Builder& b, ValueId x) {
  ValueId b0 = b.conv(x, one(256));
  b0 = b.conv(b0, halving(384));
  ValueId b1 = b.conv(x, one(256));
  b1 = b.conv(b1, halving(288));
  ValueId b2 = b.conv(x, one(256));
  b2 = b.conv(b2, three(288));
  b2 = b.conv(b2, halving(320));
  return b.concat("mixed_7a", {b0, b1, b2, b.max_pool("max_pooling2d_3", x)});
}

}  // namespace

ValueId inception_resnet_v2_first(Net& net, const std::string& prefix, ValueId image) {
  Builder b(net, prefix, 0);
  ValueId x = mixed_5b(b, stem(b, image));
  for (int i = 1; i <= 10; ++i) x = block35(b, i, x);
  x = mixed_6a(b, x);
  for (int i = 1; i <= 20; ++i)
    x = apart_block(b, {"block17", i, 0.1f}, {.middle = 128, .row = 160, .column = 192, .length = 7}, x);
  return x;
}

ValueId inception_resnet_v2_second(Net& net, const std::string& prefix, ValueId x) {
  Builder b(net, prefix, kInceptionFirstConvs);
  x = mixed_7a(b, x);
  constexpr Apart kShape{.middle = 192, .row = 224, .column = 256, .length = 3};
  for (int i = 1; i < 10; ++i) x = apart_block(b, {"block8", i, 0.2f}, kShape, x);
  x = apart_block(b, {"block8", 10, 1.f, false}, kShape, x);
  return b.named_conv("conv_7b", x, one(1536));
}

}  // namespace osprey
