// Layers over the weight names of PaddlePaddle's modules. Linear weights are as checkpoint.h gives them.
#pragma once

#include <string>
#include <vector>

#include "graph/enums.h"
#include "graph/net.h"

namespace osprey::paddle {

enum class LayerActivation : std::uint8_t { kNone, kRelu, kSilu, kGelu };
// "relu", "silu" and the like, of the config's key; another is bad input that names both.
LayerActivation parse_activation(const std::string& text, const std::string& key);

ValueId activation(Net& net, const std::string& name, ValueId x, LayerActivation kind);

// A convolution without bias and its batch norm, "<name><conv>.weight" and "<name><norm>.*".
struct ConvNorm {
  int out = 0, kernel = 1, stride = 1, groups = 1;
  LayerActivation activation = LayerActivation::kNone;
  std::vector<int> pads = {};  // top, left, bottom, right; empty: as many as keep the extents at stride 1
  bool affine = false;         // a learnable affine block (".lab") behind the activation
  const char *conv = ".conv", *norm = ".bn";
};
ValueId conv_norm(Net& net, const std::string& name, ValueId x, const ConvNorm& layer);

// Of x, or of x + residual.
ValueId layer_norm(Net& net, const std::string& name, ValueId x, ValueId residual = kNoValue);

// Linear layers "<name>.layers.<i>" of these widths, ReLU between them; the last one's result is f32.
ValueId mlp(Net& net, const std::string& name, ValueId x, const std::vector<int>& widths,
            bool f32_out = true);

// Multi-head self-attention: queries and keys of `with_position`, values of `x`; the output projection of it.
struct SelfAttention {
  int heads = 8, tokens = 1;
};
ValueId self_attention(Net& net, const std::string& name, const SelfAttention& m, ValueId x,
                       ValueId with_position);

}  // namespace osprey::paddle
