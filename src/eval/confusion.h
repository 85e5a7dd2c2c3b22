// Which class is taken for which: a confusion matrix of detections, as plain data for tables and pictures.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "eval/coco_eval.h"

namespace osprey {

struct ConfusionOptions {
  double iou = .5;
  double score_threshold = .25;  // results below it are not looked at
  int max_detections = 100;      // in an image, the best
};

// counts[truth * labels.size() + predicted]. The last label is "background": its column holds the instances
// that were missed, its row the false alarms.
struct ConfusionMatrix {
  std::vector<std::string> labels;
  std::vector<std::int64_t> counts;
};

// Greedy, image by image: by descending score each result takes the instance of any class, not taken yet,
// with the best overlap of at least options.iou; among equal ones, one of its own class first. Results on a
// crowd region, or on another annotation that COCO ignores, are left out, and so are those annotations.
ConfusionMatrix confusion_matrix(const CocoAnnotations& truth, const CocoResults& results, CocoType type,
                                 const ConfusionOptions& options = {});

}  // namespace osprey
