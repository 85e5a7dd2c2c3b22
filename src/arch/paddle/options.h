// What a PaddleDetection config says, as the options of the blocks that the model is made of.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arch/family/keyed_config.h"
#include "arch/paddle/decoder.h"
#include "arch/paddle/hgnetv2.h"
#include "arch/paddle/hybrid_encoder.h"
#include "arch/paddle/resnet_vd.h"
#include "graph/model.h"

namespace osprey::paddle {

// A config file with its bases, or an official config's name, and `-o key=value` on top.
KeyedConfig load(const std::string& config,
                 const std::vector<std::pair<std::string, std::string>>& overrides);

bool has_masks(const KeyedConfig& config);

// The test-time reader: photos stretched to `height` x `width`, then (pixel * scale - mean) / std, RGB.
struct Reader {
  int height = 640, width = 640;
  float scale = 1;
  std::vector<float> mean{0, 0, 0}, std{1, 1, 1};
};
Reader reader_options(const KeyedConfig& config);

struct Backbone {
  std::optional<HgNetV2> hgnet;  // or else
  ResNetVd resnet;
  std::vector<int> stages;
};
Backbone backbone_options(const KeyedConfig& config);
HybridEncoder encoder_options(const KeyedConfig& config);
Decoder decoder_options(const KeyedConfig& config);

struct PostProcess {
  int top = 100;
  float mask_threshold = 0.5f;
};
PostProcess post_process_options(const KeyedConfig& config);

std::vector<Category> categories(const KeyedConfig& config);
// "Mask RT-DETR, HGNetv2-L, 640x640"
std::string describe(const KeyedConfig& config, const Reader& reader);

}  // namespace osprey::paddle
