#include "arch/paddle/layers.h"

#include "arch/blocks/layers.h"
#include "arch/paddle/checkpoint.h"
#include "ops/activate.h"
#include "ops/attention.h"
#include "ops/batch_norm.h"
#include "ops/conv.h"
#include "ops/gelu.h"
#include "ops/layer_norm.h"
#include "ops/linear.h"

namespace osprey::paddle {
namespace {

ValueId paddle_batch_norm(Net& net, const std::string& name, ValueId x) {
  const Shape shape{net.channels(x)};
  const auto part = [&](const char* what) { return net.weight(name + what, shape); };
  return net.add(BatchNorm{.epsilon = 1e-5f},
                 {x, part(".weight"), part(".bias"), part("._mean"), part("._variance")}, name);
}

// A weight [1] as [channels].
ValueId repeated(Net& net, const std::string& name, std::int64_t channels) {
  const Weight* one = net.graph().weight(net.weight(name, {1}));
  return net.graph().add_weight(name + "/channels", {DType::kF32, {channels}}, [load = one->load, channels] {
    const std::vector<float> values(static_cast<std::size_t>(channels), load().to_f32().values<float>()[0]);
    return Tensor::from<float>(values, {channels});
  });
}

ValueId constant(Net& net, const std::string& name, std::int64_t channels, float value) {
  const std::vector<float> values(static_cast<std::size_t>(channels), value);
  return net.graph().add_weight(name, Tensor::from<float>(values, {channels}));
}

// scale * x + bias with one scale and bias for all channels (LearnableAffineBlock): a batch norm whose
// statistics are those of a standard normal.
ValueId affine(Net& net, const std::string& name, ValueId x) {
  const std::int64_t channels = net.channels(x);
  return net.add(BatchNorm{.epsilon = 0},
                 {x, repeated(net, name + ".scale", channels), repeated(net, name + ".bias", channels),
                  constant(net, name + ".mean", channels, 0), constant(net, name + ".variance", channels, 1)},
                 name);
}

ValueId plain_linear(Net& net, const std::string& name, const std::string& weight, const std::string& bias,
                     ValueId x, int out) {
  return net.add(Linear{}, {x, net.weight(weight, {out, net.channels(x)}), net.weight(bias, {out})}, name);
}

}  // namespace

LayerActivation parse_activation(const std::string& text, const std::string& key) {
  if (text == "relu") return LayerActivation::kRelu;
  if (text == "silu" || text == "swish") return LayerActivation::kSilu;
  if (text == "gelu") return LayerActivation::kGelu;
  bad_input("{}: the activation '{}' is not supported; relu, silu and gelu are", key, text);
}

ValueId activation(Net& net, const std::string& name, ValueId x, LayerActivation kind) {
  switch (kind) {
    case LayerActivation::kNone:
      return x;
    case LayerActivation::kRelu:
      return net.add(Activate{.kind = Activation::kRelu}, {x}, name + ".relu");
    case LayerActivation::kSilu:
      return net.add(Activate{.kind = Activation::kSwish}, {x}, name + ".silu");
    case LayerActivation::kGelu:
      return net.add(Gelu{}, {x}, name + ".gelu");
  }
  return x;
}

ValueId conv_norm(Net& net, const std::string& name, ValueId x, const ConvNorm& layer) {
  const int pad = (layer.kernel - 1) / 2;
  const Conv op{.stride = {layer.stride, layer.stride},
                .pads = layer.pads.empty() ? std::vector(4, pad) : layer.pads,
                .groups = layer.groups};
  const std::int64_t in = net.channels(x);
  require(layer.groups > 0 && in % layer.groups == 0, "{}: {} channels in {} groups", name, in, layer.groups);
  const std::string conv = name + layer.conv;
  const ValueId weight =
      net.weight(conv + ".weight", {layer.out, in / layer.groups, layer.kernel, layer.kernel});
  ValueId y = net.add(op, {x, weight}, conv);
  y = activation(net, name, paddle_batch_norm(net, name + layer.norm, y), layer.activation);
  return layer.affine ? affine(net, name + ".lab", y) : y;
}

ValueId layer_norm(Net& net, const std::string& name, ValueId x, ValueId residual) {
  const Shape shape{net.channels(x)};
  std::vector<ValueId> inputs{x, net.weight(name + ".weight", shape), net.weight(name + ".bias", shape)};
  if (residual != kNoValue) inputs.push_back(residual);
  return net.add(LayerNorm{.epsilon = 1e-5f}, std::move(inputs), name);
}

ValueId mlp(Net& net, const std::string& name, ValueId x, const std::vector<int>& widths, bool f32_out) {
  for (std::size_t i = 0; i < widths.size(); ++i) {
    const bool last = i + 1 == widths.size();
    x = linear(net, fmt::format("{}.layers.{}", name, i), x,
               {.out = widths[i], .relu = !last, .f32_out = last && f32_out});
  }
  return x;
}

ValueId self_attention(Net& net, const std::string& name, const SelfAttention& m, ValueId x,
                       ValueId with_position) {
  const int width = static_cast<int>(net.channels(x));
  const std::string weight = name + ".in_proj_weight", bias = name + ".in_proj_bias";
  const ValueId query_key =
      plain_linear(net, name + ".query_key", weight + kQueryKey, bias + kQueryKey, with_position, 2 * width);
  const ValueId value = plain_linear(net, name + ".value", weight + kValue, bias + kValue, x, width);
  const ValueId mixed = net.add(Attention{.heads = m.heads, .tokens = m.tokens}, {query_key, value}, name);
  return linear(net, name + ".out_proj", mixed, {.out = width});
}

}  // namespace osprey::paddle
