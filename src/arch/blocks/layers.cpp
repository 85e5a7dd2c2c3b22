#include "arch/blocks/layers.h"

#include "ops/activate.h"
#include "ops/batch_norm.h"
#include "ops/conv.h"
#include "ops/conv_transpose.h"
#include "ops/flatten.h"
#include "ops/linear.h"

namespace osprey {

ValueId conv(Net& net, const std::string& name, ValueId x, const ConvLayer& layer) {
  const std::int64_t in = net.channels(x);
  require(layer.out > 0 && layer.groups > 0 && in % layer.groups == 0 && layer.out % layer.groups == 0,
          "{}: {} to {} channels in {} groups", name, in, layer.out, layer.groups);
  const int pad = layer.dilation * (layer.kernel - 1) / 2;
  const Conv op{.stride = {layer.stride, layer.stride},
                .dilation = {layer.dilation, layer.dilation},
                .pads = {pad, pad, pad, pad},
                .groups = layer.groups,
                .f32_out = layer.f32_out};
  std::vector<ValueId> inputs{
      x, net.weight(name + ".weight", {layer.out, in / layer.groups, layer.kernel, layer.kernel})};
  if (layer.bias && !layer.batch_norm) inputs.push_back(net.weight(name + ".bias", {layer.out}));
  ValueId y = net.add(op, std::move(inputs), name);
  if (layer.batch_norm)
    y = batch_norm(net, layer.norm.empty() ? name + ".norm" : layer.norm, y, layer.epsilon);
  return layer.relu ? relu(net, name, y) : y;
}

ValueId batch_norm(Net& net, const std::string& name, ValueId x, float epsilon) {
  const Shape shape{net.channels(x)};
  const auto statistic = [&](const char* what) { return net.weight(name + what, shape); };
  return net.add(
      BatchNorm{.epsilon = epsilon},
      {x, statistic(".weight"), statistic(".bias"), statistic(".running_mean"), statistic(".running_var")},
      name);
}

ValueId deconv(Net& net, const std::string& name, ValueId x, const DeconvLayer& layer) {
  const ConvTranspose op{.stride = {layer.stride, layer.stride},
                         .pads = {layer.pad, layer.pad, layer.pad, layer.pad},
                         .f32_out = layer.f32_out};
  const ValueId weight =
      net.weight(name + ".weight", {net.channels(x), layer.out, layer.kernel, layer.kernel});
  const ValueId y = net.add(op, {x, weight, net.weight(name + ".bias", {layer.out})}, name);
  return layer.relu ? relu(net, name, y) : y;
}

ValueId linear(Net& net, const std::string& name, ValueId x, const LinearLayer& layer) {
  if (net.type(x).rank() == 4) x = net.add(Flatten{}, {x}, name + ".flatten");
  const ValueId weight = net.weight(name + ".weight", {layer.out, net.channels(x)});
  const ValueId y =
      net.add(Linear{.f32_out = layer.f32_out}, {x, weight, net.weight(name + ".bias", {layer.out})}, name);
  return layer.relu ? relu(net, name, y) : y;
}

ValueId relu(Net& net, const std::string& name, ValueId x) {
  return net.add(Activate{.kind = Activation::kRelu}, {x}, name + ".relu");
}

}  // namespace osprey
