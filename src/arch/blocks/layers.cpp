#include "arch/blocks/layers.h"

#include "ops/activate.h"
#include "ops/batch_norm.h"
#include "ops/conv.h"
#include "ops/conv_transpose.h"
#include "ops/flatten.h"
#include "ops/group_norm.h"
#include "ops/linear.h"

namespace osprey {
namespace {

std::string name_of(const std::string& layer, const GroupNormLayer& norm) {
  return norm.sequential ? layer + ".0" : layer;
}
std::string norm_of(const std::string& layer, const GroupNormLayer& norm) {
  return norm.sequential ? layer + ".1" : layer + ".norm";
}

}  // namespace

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
  const std::string own = name_of(name, layer.group_norm);
  const std::string norm = layer.norm.empty() ? norm_of(name, layer.group_norm) : layer.norm;
  const bool grouped = layer.group_norm.exists();
  std::vector<ValueId> inputs{
      x, net.weight(own + ".weight", {layer.out, in / layer.groups, layer.kernel, layer.kernel})};
  if (layer.bias && !layer.batch_norm && !grouped) inputs.push_back(net.weight(own + ".bias", {layer.out}));
  ValueId y = net.add(op, std::move(inputs), own);
  if (grouped)
    y = group_norm(net, norm, y, layer.group_norm);
  else if (layer.batch_norm)
    y = batch_norm(net, norm, y, layer.epsilon);
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

ValueId group_norm(Net& net, const std::string& name, ValueId x, const GroupNormLayer& layer) {
  const std::int64_t channels = net.channels(x);
  const std::int64_t groups = layer.groups > 0 ? layer.groups : channels / layer.width;
  require(groups > 0 && channels % groups == 0, "{}: {} channels in {} groups", name, channels, groups);
  return net.add(GroupNorm{.groups = static_cast<int>(groups), .epsilon = layer.epsilon},
                 {x, net.weight(name + ".weight", {channels}), net.weight(name + ".bias", {channels})}, name);
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
  const std::string own = name_of(name, layer.group_norm);
  std::vector<ValueId> inputs{x, net.weight(own + ".weight", {layer.out, net.channels(x)})};
  if (!layer.group_norm.exists()) inputs.push_back(net.weight(own + ".bias", {layer.out}));
  ValueId y = net.add(Linear{.f32_out = layer.f32_out}, std::move(inputs), own);
  if (layer.group_norm.exists()) y = group_norm(net, norm_of(name, layer.group_norm), y, layer.group_norm);
  return layer.relu ? relu(net, name, y) : y;
}

ValueId relu(Net& net, const std::string& name, ValueId x) {
  return net.add(Activate{.kind = Activation::kRelu}, {x}, name + ".relu");
}

}  // namespace osprey
