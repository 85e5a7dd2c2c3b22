// The curves behind the numbers, as plain data (draw/plot.h draws them).
#pragma once

#include <vector>

#include "draw/plot.h"
#include "eval/coco_eval.h"

namespace osprey {

// Precision over recall, averaged over the classes that have an instance, a curve for each IoU threshold;
// over all areas, with the largest number of detections. Labels: "IoU 0.50".
std::vector<Curve> precision_recall_curves(const CocoEval& eval);

}  // namespace osprey
