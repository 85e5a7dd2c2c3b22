// RetinaNet's head (Lin et al. 2017), shared by every level, and the selection of its detections.
// Weight names: "<prefix>cls_subnet.{0,2,4,6}", "<prefix>bbox_subnet.{0,2,4,6}" (the odd entries of these
// sequences are ReLUs), "<prefix>cls_score", "<prefix>bbox_pred".
#pragma once

#include <string>

#include "arch/blocks/anchors.h"
#include "arch/blocks/box_head.h"
#include "arch/blocks/features.h"

namespace osprey {

struct RetinaNetHead {
  int classes = 80, convs = 4;
  Anchors anchors;
  std::vector<float> delta_weights{1, 1, 1, 1};
  int before_nms = 1000;  // candidates a level
  DetectionRule rule;
};
Detected retinanet_head(Net& net, const std::string& prefix, const RetinaNetHead& m, const Features& features,
                        ValueId geometry);

}  // namespace osprey
