// RetinaNet's head (Lin et al. 2017), shared by every level, and the selection of its detections.
// Weight names: "<prefix>cls_subnet.{0,2,4,6}", "<prefix>bbox_subnet.{0,2,4,6}" (the odd entries of these
// sequences are ReLUs), "<prefix>cls_score", "<prefix>bbox_pred", unless `names` has others.
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
  DetectionRule rule;     // by its old conventions, boxes are also clipped before they are suppressed
  struct Names {
    std::string cls = "cls_subnet", box = "bbox_subnet", scores = "cls_score", deltas = "bbox_pred";
    std::string scores_stage = "cls_logits_", deltas_stage = "box_deltas_";  // and the level's name
  } names = {};
};
Detected retinanet_head(Net& net, const std::string& prefix, const RetinaNetHead& m, const Features& features,
                        ValueId geometry);

}  // namespace osprey
