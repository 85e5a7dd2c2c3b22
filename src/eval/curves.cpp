#include "eval/curves.h"

#include <fmt/format.h>

namespace osprey {

namespace {

// Precision at each recall, averaged over the classes that have an instance; empty where none has.
Curve average(const CocoEval& eval, std::size_t t) {
  Curve curve;
  for (std::size_t r = 0; r < eval.recall_thresholds.size(); ++r) {
    double sum = 0;
    int count = 0;
    for (std::size_t k = 0; k < eval.category_ids.size(); ++k) {
      const double p = eval.precision[eval.precision_index(t, r, k, 0, eval.max_detections.size() - 1)];
      if (p < 0) continue;
      sum += p;
      ++count;
    }
    if (count == 0) return {};
    curve.x.push_back(eval.recall_thresholds[r]);
    curve.y.push_back(sum / count);
  }
  return curve;
}

}  // namespace

std::vector<Curve> precision_recall_curves(const CocoEval& eval) {
  std::vector<Curve> curves;
  for (std::size_t t = 0; t < eval.iou_thresholds.size(); ++t) {
    Curve curve = average(eval, t);
    if (curve.x.empty()) continue;
    curve.label = fmt::format("IoU {:.2f}", eval.iou_thresholds[t]);
    curves.push_back(std::move(curve));
  }
  return curves;
}

}  // namespace osprey
