// Region proposal network (Ren et al. 2015) with a head that all levels share.
// Weight names: "<prefix>rpn_head.conv" (or ".conv.conv0", ".conv.conv1", ... where there are several),
// "<prefix>rpn_head.{objectness_logits,anchor_deltas}", unless `names` has others.
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
  float min_size = 0;    // network pixels; boxes must be larger
  bool last = false;     // there is no second stage: run-time thresholds of detections apply to the proposals
  int per_level = 0;     // proposals kept of a level, before after_nms of all; 0: no limit
  bool sigmoid = false;  // scores are probabilities, and are ranked as such, not logits
  bool inclusive = false;  // graph/box_rules.h
  struct Names {
    std::string head = "rpn_head.", logits = "objectness_logits", deltas = "anchor_deltas";
  } names = {};
};

// Image by image, by descending score.
struct Proposals {
  ValueId boxes = kNoValue, scores = kNoValue;  // f32[R,5] in network pixels, f32[R]
};
Proposals rpn(Net& net, const std::string& prefix, const Rpn& m, const Features& features, ValueId geometry);

}  // namespace osprey
