#include "arch/paddle/hybrid_encoder.h"

#include <cmath>

#include "arch/blocks/layers.h"
#include "ops/add.h"
#include "ops/combine_rows.h"
#include "ops/concat.h"
#include "ops/conv.h"
#include "ops/token_map.h"
#include "ops/tokens.h"
#include "ops/upsample.h"

namespace osprey::paddle {
namespace {

// Sines and cosines of w, then of h. Token t gets those of (t / height, t % height): on square maps its row
// and column, on others what the framework has there (build_2d_sincos_position_embedding).
Tensor position_embedding(std::int64_t height, std::int64_t width, std::int64_t channels, float temperature) {
  const std::int64_t quarter = channels / 4;
  Tensor out = Tensor::zeros(DType::kF32, {height * width, channels});
  float* to = out.mutable_values<float>().data();
  for (std::int64_t t = 0; t < height * width; ++t, to += channels)
    for (std::int64_t i = 0; i < quarter; ++i) {
      const auto share = static_cast<float>(i) / static_cast<float>(quarter);
      const float frequency = 1.0f / std::pow(temperature, share);
      const std::int64_t column = t / height, row = t % height;
      const float w = static_cast<float>(column) * frequency, h = static_cast<float>(row) * frequency;
      to[i] = std::sin(w), to[quarter + i] = std::cos(w);
      to[2 * quarter + i] = std::sin(h), to[3 * quarter + i] = std::cos(h);
    }
  return out;
}

class Builder {
 public:
  Builder(Net& net, const HybridEncoder& m) : net_(net), m_(m) {}

  std::vector<ValueId> project(const Features& features, std::size_t first) {
    std::vector<ValueId> out;
    for (std::size_t i = first; i < features.size(); ++i) {
      const std::size_t level = i - first;
      const ConvNorm point{.out = m_.width, .conv = ".0", .norm = ".1"};
      const ValueId x = conv_norm(net_, fmt::format("neck.input_proj.{}", level), features[i].value, point);
      out.push_back(net_.stage(fmt::format("neck.input_proj{}", level), x));
    }
    return out;
  }

  void encode(std::vector<ValueId>& levels) {
    for (std::size_t k = 0; k < m_.encoded.size(); ++k) {
      ValueId& level = levels.at(static_cast<std::size_t>(m_.encoded[k]));
      level = encode_level(static_cast<int>(k), level);
    }
  }

  // Down from the coarsest level, and up again.
  std::vector<ValueId> fuse(std::vector<ValueId> levels) {
    const std::size_t last = levels.size() - 1;
    for (std::size_t i = 0; i < last; ++i) {
      ValueId& upper = levels[last - i];
      upper = staged("neck.lateral_convs", i,
                     base_conv(fmt::format("neck.lateral_convs.{}", i), upper, {.out = m_.width}));
      const std::string name = fmt::format("neck.fpn_blocks.{}", i);
      const ValueId larger = net_.add(Upsample{.scale = 2}, {upper}, name + ".upsample");
      levels[last - i - 1] = staged("neck.fpn_blocks", i, csp_block(name, larger, levels[last - i - 1]));
    }
    for (std::size_t i = 0; i < last; ++i) {
      const std::string down = fmt::format("neck.downsample_convs.{}", i);
      const ValueId smaller = staged("neck.downsample_convs", i,
                                     base_conv(down, levels[i], {.out = m_.width, .kernel = 3, .stride = 2}));
      levels[i + 1] = staged("neck.pan_blocks", i,
                             csp_block(fmt::format("neck.pan_blocks.{}", i), smaller, levels[i + 1]));
    }
    return levels;
  }

  // MaskFeatFPN: the levels brought to the finest one's size and summed, then joined with the backbone's
  // finest map.
  ValueId mask_features(const std::vector<ValueId>& levels, ValueId finest) {
    const std::string head = "neck.mask_feat_head.";
    const int wide = m_.mask_widths[0], narrow = m_.mask_widths[1];
    ValueId sum = kNoValue;
    for (std::size_t i = 0; i < levels.size(); ++i) {
      const ValueId scaled =
          scale_head(fmt::format("{}scale_heads.{}", head, i), static_cast<int>(i), wide, levels[i]);
      sum = sum == kNoValue ? scaled : net_.add(Add{}, {sum, scaled}, fmt::format("{}add.{}", head, i));
    }
    sum = base_conv(head + "output_conv", sum, {.out = narrow, .kernel = 3});
    sum = enlarged("neck.enc_mask_output", net_.stage("neck.mask_feat_head", sum));
    const ValueId lateral = net_.stage(
        "neck.enc_mask_lateral", base_conv("neck.enc_mask_lateral", finest, {.out = narrow, .kernel = 3}));
    ValueId y = net_.add(Add{}, {sum, lateral}, "neck.enc_mask_output.add");
    y = base_conv("neck.enc_mask_output.0", y, {.out = narrow, .kernel = 3});
    return net_.stage("neck.mask_feat", conv(net_, "neck.enc_mask_output.1", y, {.out = m_.prototypes}));
  }

 private:
  ValueId staged(const char* name, std::size_t i, ValueId x) {
    return net_.stage(fmt::format("{}{}", name, i), x);
  }

  ValueId base_conv(const std::string& name, ValueId x, ConvNorm layer) {
    layer.activation = m_.activation;
    return conv_norm(net_, name, x, layer);
  }

  ValueId enlarged(const std::string& name, ValueId x) {
    return net_.add(Upsample{.mode = Interpolation::kBilinear, .scale = 2}, {x}, name + ".upsample");
  }

  // A 3x3 convolution and an enlargement for every halving between the finest level and this one.
  ValueId scale_head(const std::string& name, int halvings, int out, ValueId x) {
    for (int i = 0; i < std::max(halvings, 1); ++i) {
      const std::string layer = fmt::format("{}.{}.0", name, 2 * i);
      x = base_conv(layer, x, {.out = out, .kernel = 3});
      if (halvings > 0) x = enlarged(layer, x);
    }
    return x;
  }

  ValueId csp_block(const std::string& name, ValueId a, ValueId b) {
    const ValueId x = net_.add(Concat{}, {a, b}, name + ".concat");
    const int hidden = static_cast<int>(static_cast<float>(m_.width) * m_.expansion);
    ValueId y = base_conv(name + ".conv1", x, {.out = hidden});
    for (int i = 0; i < m_.rep_blocks; ++i) y = rep_vgg(fmt::format("{}.bottlenecks.{}", name, i), y, hidden);
    const ValueId direct = base_conv(name + ".conv2", x, {.out = hidden});
    const ValueId sum = net_.add(Add{}, {y, direct}, name + ".add");
    return hidden == m_.width ? sum : base_conv(name + ".conv3", sum, {.out = m_.width});
  }

  // Merged, its convolution is "<name>.conv".
  ValueId rep_vgg(const std::string& name, ValueId x, int width) {
    if (m_.merged)
      return activation(net_, name, conv(net_, name + ".conv", x, {.out = width, .kernel = 3}),
                        m_.activation);
    const ValueId wide = conv_norm(net_, name + ".conv1", x, {.out = width, .kernel = 3});
    const ValueId point = conv_norm(net_, name + ".conv2", x, {.out = width});
    return activation(net_, name, net_.add(Add{}, {wide, point}, name + ".add"), m_.activation);
  }

  ValueId encode_level(int k, ValueId map) {
    const std::int64_t height = net_.type(map).dims[2].constant(), width = net_.type(map).dims[3].constant();
    const std::string name = fmt::format("neck.encoder.{}", k);
    const ValueId positions = net_.graph().add_weight(
        name + ".position_embedding", position_embedding(height, width, m_.width, m_.temperature));
    ValueId x = net_.add(Tokens{}, {map}, name + ".tokens");
    for (int i = 0; i < m_.layers; ++i)
      x = encoder_layer(fmt::format("{}.layers.{}", name, i), static_cast<int>(height * width), x, positions);
    net_.stage(fmt::format("neck.aifi{}", k), x);
    const TokenMap back{.height = static_cast<int>(height), .width = static_cast<int>(width)};
    return net_.add(back, {x}, name + ".map");
  }

  ValueId encoder_layer(const std::string& name, int tokens, ValueId x, ValueId positions) {
    const ValueId with_position = net_.add(CombineRows{}, {x, positions}, name + ".position");
    const SelfAttention attention{.heads = m_.layer.heads, .tokens = tokens};
    const ValueId mixed = self_attention(net_, name + ".self_attn", attention, x, with_position);
    x = layer_norm(net_, name + ".norm1", mixed, x);
    ValueId y = linear(net_, name + ".linear1", x, {.out = m_.layer.feedforward});
    y = activation(net_, name + ".linear1", y, m_.layer.activation);
    y = linear(net_, name + ".linear2", y, {.out = m_.width});
    return layer_norm(net_, name + ".norm2", y, x);
  }

  Net& net_;
  const HybridEncoder& m_;
};

}  // namespace

Encoded hybrid_encoder(Net& net, const HybridEncoder& m, const Features& features) {
  const bool masks = !m.mask_widths.empty();
  const std::size_t first = masks ? 1 : 0;
  Builder builder(net, m);
  std::vector<ValueId> levels = builder.project(features, first);
  builder.encode(levels);
  levels = builder.fuse(std::move(levels));
  Encoded out;
  for (std::size_t i = 0; i < levels.size(); ++i)
    out.levels.push_back({fmt::format("p{}", i + 3), levels[i], features[i + first].stride});
  if (masks) out.prototypes = builder.mask_features(levels, features[0].value);
  return out;
}

}  // namespace osprey::paddle
