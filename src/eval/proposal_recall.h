// How much of the annotated objects a proposal network covers: Detectron2's box proposal metrics
// (COCOEvaluator._eval_box_proposals), without classes.
#pragma once

#include <string>
#include <vector>

#include "eval/coco_data.h"

namespace osprey {

struct ProposalRecall {
  std::string name;   // "AR@100", "ARs@1000": of all, small, medium or large objects; proposals an image
  double value = -1;  // percent: the mean over IoU 0.5, 0.55 ... 0.95; -1 without an object
};

// Each object takes a proposal of its own, the best pairs first. Crowds are no objects, and an image without
// proposals does not count. Boxes of `results` are compared in float32; their categories do not matter.
std::vector<ProposalRecall> proposal_recall(const CocoAnnotations& truth, const CocoResults& results);

// "AR@100 = 43.21", a line each.
std::string recall_text(const std::vector<ProposalRecall>& recall);

}  // namespace osprey
