// Region proposal network (Ren et al. 2015) with a head that all levels share.
// Weight names: "<prefix>rpn_head.conv" (or ".conv.conv0", ".conv.conv1", ... where there are several),
// "<prefix>rpn_head.{objectness_logits,anchor_deltas}".
#pragma once

#include <string>

#include "arch/blocks/anchors.h"
#include "arch/blocks/features.h"

namespace osprey {

struct Rpn {
  std::vector<int> widths{-1};  // of the 3x3 convolutions; -1: as many channels as come in
  Anchors anchors;
  std::vector<float> delta_weights{1, 1, 1, 1};
  int before_nms = 1000;  // candidates a level
  int after_nms = 1000;   // proposals an image
  float iou = 0.7f;
  float min_size = 0;  // network pixels; boxes must be larger
  bool last = false;   // there is no second stage: run-time thresholds of detections apply to the proposals
};

// Image by image, by descending logit.
struct Proposals {
  ValueId boxes = kNoValue, logits = kNoValue;  // f32[R,5] in network pixels, f32[R]
};
Proposals rpn(Net& net, const std::string& prefix, const Rpn& m, const Features& features, ValueId geometry);

}  // namespace osprey
