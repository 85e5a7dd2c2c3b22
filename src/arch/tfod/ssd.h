// SSD of TensorFlow's Object Detection API (meta_architectures/ssd_meta_arch.py): a trunk, feature maps from
// it or from a pyramid over it, dense heads, and its post-processing.
//
// Stages: "preprocessed", "feature_maps_<i>", "box_encodings_<i>", "class_predictions_with_background_<i>" of
// each map (NCHW; the API joins those of all maps), "det_anchor_indices".
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "arch/blocks/bifpn.h"
#include "arch/blocks/efficientnet.h"
#include "arch/tfod/hyperparams.h"
#include "arch/tfod/mobilenet.h"
#include "arch/tfod/resnet_v1.h"
#include "ops/detect_anchors.h"
#include "ops/resize_image.h"

namespace osprey::tfod {

// Photos are normalised, then resized, then padded with zeros.
struct SsdInput {
  Fit fit = Fit::kStretch;
  int height = 300, width = 300;       // of the canvas; 0: none
  int shortest = 600, longest = 1024;  // of keep_aspect
  int multiple = 1;                    // of which the extents are padded to be
};

enum class TrunkKind : std::uint8_t { kMobileNet, kResNet, kEfficientNet };

struct SsdTrunk {
  TrunkKind kind = TrunkKind::kMobileNet;
  MobileNet mobilenet;
  ResNetV1 resnet;
  EfficientNet efficientnet;
};

// Feature maps beyond the trunk's.
struct SsdMaps {
  bool pyramid = false;
  bool depthwise = false;
  Hyperparams layers;
  // Of a pyramid.
  int min_level = 3, max_level = 7, depth = 256;
  std::optional<BiFpn> bifpn;  // a bidirectional one, which replaces all but the levels
  // Without one: so many maps, widths of the added ones scaled by the multiplier.
  int count = 6;
  float depth_multiplier = 1;
  int min_depth = 0;
};

struct SsdHeads {
  bool shared = false;  // one predictor for all maps, but for its batch norms
  Hyperparams layers;
  int convs = 0, depth = 0, kernel = 1;  // of the tower before the predictions; and the predictions' kernel
  int max_depth = 0;                     // of a tower that is not shared; depth is its least width then
  bool depthwise = false;
  bool one_tower = false;  // of a shared predictor: for boxes and classes alike
  bool dropout = false;    // before the class predictions, which moves their number in the checkpoint
};

struct SsdAnchors {
  bool multiscale = false;
  // Of the multiscale generator: levels from min_level on.
  int min_level = 3, max_level = 7, scales_per_octave = 2;
  float anchor_scale = 4;
  // Of the other: [maps] scales, and one more.
  std::vector<float> scales;
  bool reduce_lowest = true;
  float interpolated_ratio = 1;
  float base_height = 1, base_width = 1;
  std::vector<float> height_strides, width_strides, height_offsets,
      width_offsets;  // pixels; empty: by the map
  std::vector<float> ratios;

  int levels() const { return multiscale ? max_level - min_level + 1 : static_cast<int>(scales.size()) - 1; }
};
// One list a map, of {height, width} in network pixels for an input of that size (any, when it is
// multiscale).
std::vector<std::vector<std::array<float, 2>>> anchor_extents(const SsdAnchors& m, int height, int width);

struct Ssd {
  int classes = 90;
  bool background = true;  // a column of its own
  SsdInput input;
  SsdTrunk trunk;
  SsdMaps maps;
  SsdHeads heads;
  SsdAnchors anchors;
  DetectAnchors detect;  // thresholds, box coder; what belongs to the maps is filled in when it is built
  std::string description;
};

void ssd(Net& net, const Ssd& m);

}  // namespace osprey::tfod
