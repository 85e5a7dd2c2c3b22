// The models of TensorFlow 2's detection zoo by name: their configs as far as inference goes, for checkpoints
// that came without.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace osprey::tfod {

struct Official {
  std::string name;   // of the archive: "ssd_mobilenet_v2_320x320_coco17_tpu-8"
  std::string title;  // "SSD MobileNet V2, 300x300"
  std::string text;   // its pipeline.config
};

const std::vector<Official>& officials();

// By its name, with or without a folder before it and ".tar.gz" or ".config" behind. Null when there is none.
const Official* find_official(std::string_view name);
std::string_view closest_official(std::string_view name);

}  // namespace osprey::tfod
