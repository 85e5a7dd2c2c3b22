// Layers over named weights: each takes "<name>.weight" (and "<name>.bias") of the checkpoint, and stamps its
// node with that name. Nothing is fused here: batch norms, activations and sums are nodes of their own, which
// passes fold into their producers later.
#pragma once

#include <string>

#include "graph/enums.h"
#include "graph/net.h"

namespace osprey {

// Normalisation in groups of neighbouring channels (ops/group_norm.h), so many, or each so wide; there is
// none where both are 0.
struct GroupNormLayer {
  int groups = 0, width = 0;
  float epsilon = 1e-5f;
  bool sequential = false;  // names are a PyTorch Sequential's: the layer "<name>.0", its norm "<name>.1"

  bool exists() const { return groups > 0 || width > 0; }
};

struct ConvLayer {
  int out = 0;  // channels
  int kernel = 1, stride = 1, dilation = 1, groups = 1;
  bool bias = true;
  bool batch_norm = false;         // then there is no bias, and the statistics are those of `norm`
  GroupNormLayer group_norm = {};  // instead; then there is no bias either
  bool relu = false;
  bool f32_out = false;   // scores and box deltas
  std::string norm = {};  // the norm's name; empty: "<name>.norm"
  float epsilon = 1e-5f;  // of the batch norm: PyTorch's, which Detectron2's FrozenBN has too
};

// A square convolution, padded so that stride 1 keeps the extents.
ValueId conv(Net& net, const std::string& name, ValueId x, const ConvLayer& layer);

// "<name>.{weight,bias,running_mean,running_var}".
ValueId batch_norm(Net& net, const std::string& name, ValueId x, float epsilon);
// "<name>.{weight,bias}"; x [N,C,H,W] or [R,C].
ValueId group_norm(Net& net, const std::string& name, ValueId x, const GroupNormLayer& layer);

struct DeconvLayer {
  int out = 0, kernel = 2, stride = 2, pad = 0;
  bool relu = false;
  bool f32_out = false;
};
ValueId deconv(Net& net, const std::string& name, ValueId x, const DeconvLayer& layer);

struct LinearLayer {
  int out = 0;
  bool relu = false;
  bool f32_out = false;
  GroupNormLayer group_norm = {};  // then there is no bias
};
// x [R,I], or [R,C,H,W], which is flattened first.
ValueId linear(Net& net, const std::string& name, ValueId x, const LinearLayer& layer);

ValueId relu(Net& net, const std::string& name, ValueId x);

}  // namespace osprey
