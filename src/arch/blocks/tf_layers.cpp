#include "arch/blocks/tf_layers.h"

#include "ops/activate.h"
#include "ops/batch_norm.h"
#include "ops/conv.h"
#include "ops/linear.h"
#include "ops/max_pool.h"

namespace osprey {
namespace {

Conv conv_op(const TfConv& layer) {
  Conv op{.stride = {layer.stride, layer.stride},
          .dilation = {layer.dilation, layer.dilation},
          .padding = Padding::kSame,
          .f32_out = layer.f32_out};
  if (layer.pad) {
    op.padding = Padding::kExplicit;
    op.pads.assign(4, *layer.pad);
  }
  return op;
}

// A parameter that the layer was made without has the same value for every channel. A layer that runs twice
// has one, as it has one of every weight.
ValueId constant(Net& net, const std::string& name, std::int64_t channels, float value) {
  const ValueId known = net.graph().find(name);
  if (known != kNoValue && net.graph().weight(known) != nullptr) return known;
  const std::vector<float> values(static_cast<std::size_t>(channels), value);
  return net.graph().add_weight(name, Tensor::from<float>(values, {channels}));
}

}  // namespace

ValueId tf_batch_norm(Net& net, const std::string& name, ValueId x, const TfNorm& norm) {
  const std::int64_t channels = net.channels(x);
  const auto parameter = [&](const char* what, bool learned, float standard) {
    return learned ? net.weight(name + what, {channels}) : constant(net, name + what, channels, standard);
  };
  return net.add(BatchNorm{.epsilon = norm.epsilon, .exact_factor = norm.exact_factor},
                 {x, parameter("/gamma", norm.scale, 1), parameter("/beta", norm.center, 0),
                  parameter("/moving_mean", true, 0), parameter("/moving_variance", true, 0)},
                 name);
}

ValueId tf_conv(Net& net, const std::string& name, ValueId x, const TfConv& layer) {
  std::vector<ValueId> inputs{
      x, net.weight(name + "/kernel", {layer.out, net.channels(x), layer.kernel, layer.width()})};
  if (layer.bias) inputs.push_back(net.weight(name + "/bias", {layer.out}));
  return net.add(conv_op(layer), std::move(inputs), name);
}

ValueId tf_depthwise_conv(Net& net, const std::string& name, ValueId x, const TfConv& layer) {
  const std::int64_t channels = net.channels(x);
  Conv op = conv_op(layer);
  op.groups = static_cast<int>(channels);
  std::vector<ValueId> inputs{
      x, net.weight(name + "/depthwise_kernel", {channels, 1, layer.kernel, layer.width()})};
  if (layer.bias) inputs.push_back(net.weight(name + "/bias", {channels}));
  return net.add(std::move(op), std::move(inputs), name);
}

ValueId tf_separable_conv(Net& net, const std::string& name, ValueId x, const TfConv& layer) {
  TfConv depthwise = layer;
  depthwise.bias = depthwise.f32_out = false;
  x = tf_depthwise_conv(net, name, x, depthwise);
  std::vector<ValueId> inputs{x, net.weight(name + "/pointwise_kernel", {layer.out, net.channels(x), 1, 1})};
  if (layer.bias) inputs.push_back(net.weight(name + "/bias", {layer.out}));
  return net.add(conv_op({.f32_out = layer.f32_out}), std::move(inputs), name + "/pointwise");
}

ValueId tf_dense(Net& net, const std::string& name, ValueId x, int out, bool f32_out) {
  return net.add(Linear{.f32_out = f32_out},
                 {x, net.weight(name + "/kernel", {out, net.channels(x)}), net.weight(name + "/bias", {out})},
                 name);
}

ValueId tf_max_pool(Net& net, const std::string& name, ValueId x, int kernel, int stride) {
  return net.add(MaxPool{.kernel = {kernel, kernel}, .stride = {stride, stride}, .padding = Padding::kSame},
                 {x}, name);
}

ValueId tf_activate(Net& net, const std::string& name, ValueId x, Activation kind) {
  return kind == Activation::kNone ? x : net.add(Activate{.kind = kind}, {x}, name + "/activation");
}

}  // namespace osprey
