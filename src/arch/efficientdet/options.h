// What the hyper-parameters say, as the options of the blocks that the model is made of.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "arch/blocks/bifpn.h"
#include "arch/blocks/efficientnet.h"
#include "arch/efficientdet/checkpoint.h"
#include "arch/efficientdet/heads.h"
#include "arch/family/keyed_config.h"
#include "graph/model.h"
#include "ops/detect_anchors.h"

namespace osprey::efficientdet {

// The hyper-parameters of a checkpoint: of the member that it is (`config` names it, or a file of
// hyper-parameters does, or the checkpoint's variables and folder tell), with a file's and --set's changes on
// top. A config.yaml in the checkpoint's folder counts as given. `source` is the checkpoint's path.
KeyedConfig load(const std::string& config, const std::vector<std::pair<std::string, std::string>>& overrides,
                 const Traits& traits, const std::string& source);

struct Size {
  int height = 0, width = 0;
};
Size image_size(const KeyedConfig& config);

EfficientNet trunk_options(const KeyedConfig& config);
BiFpn pyramid_options(const KeyedConfig& config);
HeadNet class_options(const KeyedConfig& config);
HeadNet box_options(const KeyedConfig& config);
bool uses_averages(const KeyedConfig& config);

// Of maps of the pyramid's levels for a network input of this size.
DetectAnchors detection_options(const KeyedConfig& config, const Size& size);

struct Pixels {
  std::vector<float> mean, std;  // RGB
};
Pixels pixel_options(const KeyedConfig& config);

std::vector<Category> categories(const KeyedConfig& config);

}  // namespace osprey::efficientdet
