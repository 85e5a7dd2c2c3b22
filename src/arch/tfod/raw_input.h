// The input of models that resize and pad raw photos and normalise them, with their padding, thereafter:
// those of two stages and CenterNet.
#pragma once

#include <string>
#include <vector>

#include "arch/blocks/photo_io.h"
#include "arch/tfod/config.h"

namespace osprey::tfod {

struct RawInput {
  bool keep_aspect = true;                  // else stretched to the canvas
  int shortest = 600, longest = 1024;       // of keep_aspect, network pixels
  int canvas_height = 0, canvas_width = 0;  // what it is padded or stretched to; 0: nothing
  bool bgr = false;                         // the network takes blue first
  float scale = 1;                          // (x * scale - mean) / std, in the network's channel order
  std::vector<float> mean{0, 0, 0}, std{1, 1, 1};
};

// An ImageResizer message, but for what the extractor does to the pixels; height and width are the user's, 0
// without.
RawInput read_raw_input(Config& config, const std::string& path, int height, int width);

NetworkInput raw_input(Net& net, const RawInput& m);

}  // namespace osprey::tfod
