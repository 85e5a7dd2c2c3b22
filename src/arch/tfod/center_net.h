// CenterNet (Zhou et al., "Objects as points", 2019) of TensorFlow's Object Detection API
// (meta_architectures/center_net_meta_arch.py): a map of stride 4, heads that give each pixel's chance of
// being the centre of an object of each class, and the object's size and the centre's place within the pixel.
//
// Stages: "preprocessed", "extracted_features", "object_center", "box_scale", "box_offset" (NCHW).
#pragma once

#include <string>
#include <vector>

#include "arch/tfod/hourglass.h"
#include "arch/tfod/raw_input.h"
#include "arch/tfod/resnet_v1.h"
#include "ops/center_queries.h"

namespace osprey::tfod {

// The convolutions of a head before its 1x1.
struct CenterHead {
  std::vector<int> widths{256}, kernels{3};
};

struct CenterNet {
  int classes = 90;
  RawInput input;
  std::optional<Hourglass> hourglass;  // else a pyramid over the ResNet
  ResNetV1 resnet{.norm = {.epsilon = 1.001e-5f}, .keras = true};
  CenterHead centers, sizes, offsets;
  bool depthwise = false;  // the convolutions of the heads
  CenterQueries queries;
  int detections = 100;
  std::string description;

  // What the input's extents must be multiples of.
  int multiple() const { return hourglass ? hourglass->multiple() : 32; }
};

void center_net(Net& net, const CenterNet& m);

}  // namespace osprey::tfod
