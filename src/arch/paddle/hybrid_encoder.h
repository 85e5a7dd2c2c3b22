// RT-DETR's hybrid encoder (Lv et al., "DETRs Beat YOLOs on Real-time Object Detection", 2024): a transformer
// encoder on some levels (AIFI), then a pyramid down and up again of CSP blocks with RepVGG blocks (CCFF);
// and Mask RT-DETR's mask features (PaddleDetection's ppdet/modeling/transformers/{,mask_}hybrid_encoder.py).
// Weight names: "neck.input_proj.0.0", "neck.encoder.0.layers.0", "neck.fpn_blocks.0.conv1", ...
#pragma once

#include <vector>

#include "arch/blocks/features.h"
#include "arch/paddle/layers.h"

namespace osprey::paddle {

struct EncoderLayer {
  int heads = 8, feedforward = 1024;
  LayerActivation activation = LayerActivation::kGelu;
};

struct HybridEncoder {
  int width = 256;
  std::vector<int> encoded{2};  // levels, from stride 8, that a transformer encoder runs on
  int layers = 1;               // of it
  EncoderLayer layer;
  float temperature = 10000;  // of the position embedding
  float expansion = 1;        // of the CSP blocks
  int rep_blocks = 3;         // RepVGG blocks of a CSP block
  bool merged = false;        // each of which is one convolution already, as in exported models
  LayerActivation activation = LayerActivation::kSilu;
  std::vector<int> mask_widths;  // of mask features; empty: none
  int prototypes = 32;
};

struct Encoded {
  Features levels;                // strides 8, 16, 32
  ValueId prototypes = kNoValue;  // of masks, stride 4
};
// `features` of strides 8, 16, 32, with masks 4 before them; all extents are constants.
Encoded hybrid_encoder(Net& net, const HybridEncoder& m, const Features& features);

}  // namespace osprey::paddle
