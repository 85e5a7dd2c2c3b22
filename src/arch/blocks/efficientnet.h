// EfficientNet (Tan and Le, 2019) as a detector's trunk: inverted bottlenecks with squeeze and excitation, as
// google/automl has them; and EfficientNet-Lite, without the squeeze and with a stem of fixed width.
//
// Weight names are those of one of two projects:
//   google/automl      "<prefix>stem/...", "<prefix>blocks_<i>/...". In a block the layers of a kind are
//                      numbered from "conv2d", "tpu_batch_normalization" up, so that a block that does not
//                      expand, as the first, starts at another layer.
//   tensorflow/models  "<prefix>stem_conv2d/...", "<prefix>stack_<s>/block_<i>/expand_conv2d/...".
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "arch/blocks/features.h"
#include "graph/enums.h"

namespace osprey {

struct EfficientNet {
  std::string prefix;           // of its variables: "efficientnet-b0/"
  double width = 1, depth = 1;  // factors of channels and of repeated blocks
  bool lite = false;
  Activation activation = Activation::kSwish;
  // The names and the levels of tensorflow/models, whose detectors take the blocks that are the last of their
  // stride in EfficientNet-B0, although a deeper network has more of them.
  bool tf_models = false;
};

// The official scaling of that name ("efficientnet-b0", "efficientnet-lite3"); none when there is no such
// network.
std::optional<EfficientNet> official_efficientnet(std::string_view name);

// Channels scaled by `width`, to the nearest multiple of 8 that is not more than a tenth below.
int scaled_channels(int channels, double width);

// A map of each stride: "backbone_level1" (stride 2) to "backbone_level5" (stride 32).
Features efficientnet(Net& net, const EfficientNet& m, ValueId image);

}  // namespace osprey
