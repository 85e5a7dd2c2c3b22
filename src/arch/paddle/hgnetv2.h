// PP-HGNetV2 (Baidu, PaddleDetection's ppdet/modeling/backbones/hgnet_v2.py) as RT-DETR's backbone.
// Weight names: "backbone.stem.stem1.conv", "backbone.stages.0.blocks.0.layers.0.conv", each with its ".bn".
#pragma once

#include <array>
#include <string>
#include <vector>

#include "arch/blocks/features.h"

namespace osprey::paddle {

struct HgStage {
  int middle = 0, out = 0, blocks = 1;
};

struct HgNetV2 {
  int stem_middle = 32, stem_out = 48;
  int layers = 6;  // of a block
  std::array<HgStage, 4> stages{};
  bool affine = false;  // learnable affine blocks behind the activations
};

// "S", "M", "L", "X" or "H"; null for another.
const HgNetV2* find_hgnetv2(const std::string& arch);

// The maps of the stages with these numbers (0..3, strides 4..32), ascending.
Features hgnetv2(Net& net, const HgNetV2& m, ValueId image, const std::vector<int>& stages);

}  // namespace osprey::paddle
