// Stacked hourglasses (Newell et al., 2016) as the Object Detection API has them for CenterNet
// (models/keras_models/hourglass_network.py): residual blocks down to the smallest map and up again, with
// residual blocks beside them at every size.
//
// Weight names: "<prefix>downsample_input/...", "<prefix>hourglass_network/<stack>/encoder_block1/<i>/...",
// ".../encoder_block2/<i>/...", ".../inner_block/<i>/...", ".../decoder_block/<i>/...",
// "<prefix>output_conv/<stack>/...", "<prefix>intermediate_{conv1,conv2,residual}/<stack>/...".
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "graph/net.h"

namespace osprey::tfod {

struct Hourglass {
  int stem = 128;                                         // channels of the first convolution
  std::vector<int> widths{256, 256, 384, 384, 384, 512};  // of the sizes, from the largest map down
  std::vector<int> blocks{2, 2, 2, 2, 2, 4};              // residual blocks there
  int stacks = 2;

  // What the input's extents must be multiples of.
  int multiple() const { return 4 << (widths.size() - 1); }
};

// "hourglass_104", ...; none when there is no such network.
std::optional<Hourglass> official_hourglass(std::string_view name);

// The last stack's map, of stride 4.
ValueId hourglass(Net& net, const std::string& prefix, const Hourglass& m, ValueId image);

}  // namespace osprey::tfod
