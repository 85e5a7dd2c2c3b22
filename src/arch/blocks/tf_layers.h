// Layers over weights that carry TensorFlow's names (Keras': "<name>/kernel", "<name>/bias") in our layouts
// (arch/family/tf_weights.h). As in arch/blocks/layers.h nothing is fused here. Extents follow TensorFlow's
// SAME rule unless pads are given.
#pragma once

#include <optional>
#include <string>

#include "graph/enums.h"
#include "graph/net.h"

namespace osprey {

// "<name>/{gamma,beta,moving_mean,moving_variance}".
struct TfNorm {
  float epsilon = 1e-3f;
  bool scale = true;          // there is a gamma
  bool center = true;         // there is a beta
  bool exact_factor = false;  // ops/batch_norm.h
};
ValueId tf_batch_norm(Net& net, const std::string& name, ValueId x, const TfNorm& norm);

struct TfConv {
  int out = 0;
  int kernel = 1, stride = 1;
  bool bias = false;
  bool f32_out = false;         // scores and box deltas
  std::optional<int> pad = {};  // pixels on every side, instead of SAME
  int kernel_width = 0;         // of a window that is no square, whose height is `kernel`; 0: it is one
  int dilation = 1;

  int width() const { return kernel_width > 0 ? kernel_width : kernel; }
};
// "<name>/kernel" and "<name>/bias".
ValueId tf_conv(Net& net, const std::string& name, ValueId x, const TfConv& layer);
// "<name>/depthwise_kernel", and a bias: each channel by itself, `out` unused.
ValueId tf_depthwise_conv(Net& net, const std::string& name, ValueId x, const TfConv& layer);
// Keras' SeparableConv2D: "<name>/depthwise_kernel", then 1x1 "<name>/pointwise_kernel" and "<name>/bias".
ValueId tf_separable_conv(Net& net, const std::string& name, ValueId x, const TfConv& layer);

// "<name>/kernel" and "<name>/bias" over x [R,I].
ValueId tf_dense(Net& net, const std::string& name, ValueId x, int out, bool f32_out = false);

ValueId tf_max_pool(Net& net, const std::string& name, ValueId x, int kernel, int stride);

// x itself where the kind is none.
ValueId tf_activate(Net& net, const std::string& name, ValueId x, Activation kind);

}  // namespace osprey
