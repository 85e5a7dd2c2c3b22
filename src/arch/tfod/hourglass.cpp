#include "arch/tfod/hourglass.h"

#include <algorithm>
#include <array>

#include "arch/blocks/tf_layers.h"
#include "ops/add.h"
#include "ops/upsample.h"

namespace osprey::tfod {
namespace {

// Exact, or a hundred convolutions amplify how the weights are rounded (ops/batch_norm.h).
constexpr TfNorm kNorm{.epsilon = 1e-5f, .exact_factor = true};

// "<name>/conv", padded alike on all sides, and "<name>/norm".
ValueId conv_norm(Net& net, const std::string& name, ValueId x, TfConv layer) {
  layer.pad = layer.kernel / 2;
  return tf_batch_norm(net, name + "/norm", tf_conv(net, name + "/conv", x, layer), kNorm);
}

ValueId conv_norm_relu(Net& net, const std::string& name, ValueId x, const TfConv& layer) {
  return tf_activate(net, name, conv_norm(net, name, x, layer), Activation::kRelu);
}

struct Residual {
  int width = 0, stride = 1;
  bool project = false;  // the shortcut is a convolution
};

ValueId residual(Net& net, const std::string& name, ValueId x, const Residual& m) {
  const ValueId y =
      conv_norm_relu(net, name + "/conv_block", x, {.out = m.width, .kernel = 3, .stride = m.stride});
  const ValueId normed = conv_norm(net, name, y, {.out = m.width, .kernel = 3});
  const ValueId shortcut =
      m.project ? conv_norm(net, name + "/skip", x, {.out = m.width, .stride = m.stride}) : x;
  return tf_activate(net, name, net.add(Add{}, {normed, shortcut}, name + "/add"), Activation::kRelu);
}

// Blocks one after the other, of which the first strides and the last has a width of its own.
struct Residuals {
  int count = 1, width = 0, last_width = 0, stride = 1;
};

ValueId residuals(Net& net, const std::string& name, ValueId x, const Residuals& m) {
  for (int i = 0; i < m.count; ++i) {
    const bool first = i == 0, last = i + 1 == m.count;
    Residual block{.width = last ? m.last_width : m.width, .stride = first ? m.stride : 1};
    block.project = block.stride > 1 || (last && !first && m.last_width != m.width);
    x = residual(net, fmt::format("{}/{}", name, i), x, block);
  }
  return x;
}

// From the `level`-th width down, and back.
ValueId encode_and_decode(Net& net, const std::string& name, const Hourglass& m, std::size_t level,
                          ValueId x) {
  const int width = m.widths[level], below = m.widths[level + 1], count = m.blocks[level];
  const auto blocks = [&](const char* part, ValueId from, const Residuals& shape) {
    return residuals(net, name + part, from, shape);
  };
  const ValueId beside = blocks("/encoder_block1", x, {.count = count, .width = width, .last_width = width});
  ValueId y =
      blocks("/encoder_block2", x, {.count = count, .width = below, .last_width = below, .stride = 2});
  y = level + 2 < m.widths.size()
          ? encode_and_decode(net, name + "/inner_block/0", m, level + 1, y)
          : blocks("/inner_block", y, {.count = m.blocks[level + 1], .width = below, .last_width = below});
  y = blocks("/decoder_block", y, {.count = count, .width = below, .last_width = width});
  y = net.add(Upsample{.scale = 2}, {y}, name + "/upsample");
  return net.add(Add{}, {beside, y}, name + "/merge_features");
}

struct Official {
  std::string_view name;
  Hourglass network;
};

const std::array<Official, 5>& officials() {
  static const std::array<Official, 5> kTable{
      {{"hourglass_10", {.stem = 32, .widths = {64, 64}, .blocks = {1, 1}, .stacks = 1}},
       {"hourglass_20", {.stem = 48, .widths = {96, 96, 144}, .blocks = {1, 2, 2}, .stacks = 1}},
       {"hourglass_32", {.stem = 48, .widths = {96, 96, 144, 144}, .blocks = {2, 2, 2, 2}, .stacks = 1}},
       {"hourglass_52",
        {.stem = 64, .widths = {128, 128, 192, 192, 192, 256}, .blocks = {2, 2, 2, 2, 2, 4}, .stacks = 1}},
       {"hourglass_104", {}}}};
  return kTable;
}

}  // namespace

std::optional<Hourglass> official_hourglass(std::string_view name) {
  const auto it =
      std::find_if(officials().begin(), officials().end(), [&](const Official& o) { return o.name == name; });
  if (it == officials().end()) return std::nullopt;
  return it->network;
}

ValueId hourglass(Net& net, const std::string& prefix, const Hourglass& m, ValueId image) {
  const int width = m.widths.front();
  const std::string stem = prefix + "downsample_input/";
  ValueId x = conv_norm_relu(net, stem + "conv_block", image, {.out = m.stem, .kernel = 7, .stride = 2});
  x = residual(net, stem + "residual_block", x, {.width = width, .stride = 2, .project = true});
  for (int i = 0;; ++i) {
    const auto at = [&](const char* part) { return fmt::format("{}{}/{}", prefix, part, i); };
    const ValueId y =
        conv_norm_relu(net, at("output_conv"), encode_and_decode(net, at("hourglass_network"), m, 0, x),
                       {.out = width, .kernel = 3});
    if (i + 1 == m.stacks) return y;
    const ValueId before = conv_norm(net, at("intermediate_conv1"), x, {.out = width}),
                  after = conv_norm(net, at("intermediate_conv2"), y, {.out = width});
    const ValueId sum = net.add(Add{}, {before, after}, at("intermediate_add"));
    x = residual(net, at("intermediate_residual"),
                 tf_activate(net, at("intermediate_relu"), sum, Activation::kRelu), {.width = width});
  }
}

}  // namespace osprey::tfod
