// On one thread: the scores of a picture are scanned in less time than threads need to meet, and few of them
// lead to a box.
#include "ops/select_boxes.h"

#include <algorithm>

#include "cpu/boxes.h"

namespace osprey {
namespace {

class Selector {
 public:
  Selector(const SelectBoxes& op, CpuRun& run)
      : rois_(rows_of<Roi>(run.in(0))),
        scores_(rows_of<float>(run.in(1))),
        deltas_(rows_of<float>(run.in(2))),
        geometry_(rows_of<Geometry>(run.in(3))),
        classes_(run.in(1).dims[1] - 1),
        delta_width_(run.in(2).dims[1]),
        first_delta_(op.background_deltas ? 4 : 0),
        class_agnostic_(delta_width_ - first_delta_ == 4),
        threshold_(run.parameters().score_threshold.value_or(op.threshold)),
        decode_(op.weights, op.max_log_scale, op.delta_order, op.inclusive),
        first_(op.background_first ? 1 : 0),
        clip_(op.clip) {}

  // Writes the rows of a roi and returns how many.
  std::int64_t write(std::int64_t r, Roi* boxes, float* out_scores, std::int32_t* out_classes) const {
    const float* scores = scores_ + r * (classes_ + 1) + first_;
    if (std::none_of(scores, scores + classes_, [&](float s) { return s > threshold_; })) return 0;
    if (clip_ && !finite(r)) return 0;
    const Geometry& g = geometry_[static_cast<int>(rois_[r].image)];
    std::int64_t rows = 0;
    Box box;
    for (std::int64_t k = 0; k < classes_; ++k) {
      if (!(scores[k] > threshold_)) continue;
      if (rows == 0 || !class_agnostic_) box = decoded(r, k);
      if (clip_) box = clip_box(box, g.clip_height - decode_.pixel, g.clip_width - decode_.pixel);
      if (has_nan(box)) continue;
      boxes[rows] = {rois_[r].image, box};
      out_scores[rows] = scores[k];
      out_classes[rows++] = static_cast<std::int32_t>(k);
    }
    return rows;
  }

 private:
  Box decoded(std::int64_t r, std::int64_t k) const {
    return decode_(rois_[r].box, deltas_ + r * delta_width_ + first_delta_ + (class_agnostic_ ? 0 : 4 * k));
  }

  // Whether all scores and all decoded boxes of the roi are finite, candidates or not.
  bool finite(std::int64_t r) const {
    const float* scores = scores_ + r * (classes_ + 1);
    if (!std::all_of(scores, scores + classes_ + 1, [](float s) { return std::isfinite(s); })) return false;
    // Numbers of these sizes cannot overflow: saves decoding all the other classes.
    const auto small = [](float v) { return std::abs(v) < 1e6f; };
    const Box& box = rois_[r].box;
    const float* deltas = deltas_ + r * delta_width_;
    if (decode_.max_log_scale > 0 && decode_.max_log_scale < 30 && small(box.x0) && small(box.y0) &&
        small(box.x1) && small(box.y1) && std::all_of(deltas, deltas + delta_width_, small))
      return true;
    for (std::int64_t k = 0; k < (delta_width_ - first_delta_) / 4; ++k)
      if (!is_finite(decoded(r, k))) return false;
    return true;
  }

  const Roi* rois_;
  const float* scores_;
  const float* deltas_;
  const Geometry* geometry_;
  std::int64_t classes_, delta_width_;
  std::int64_t first_delta_;  // column of class 0's, or of those for all classes
  bool class_agnostic_;
  float threshold_;
  BoxDecoder decode_;
  std::int64_t first_;  // column that is class 0
  bool clip_;
};

void select_boxes(const SelectBoxes& op, CpuRun& run) {
  const Selector selector(op, run);
  Roi* boxes = mutable_rows_of<Roi>(run.out(0));
  auto* const scores = mutable_rows_of<float>(run.out(1));
  auto* const classes = mutable_rows_of<std::int32_t>(run.out(2));
  std::int64_t total = 0;
  for (std::int64_t r = 0; r < run.in(0).dims[0]; ++r)
    total += selector.write(r, boxes + total, scores + total, classes + total);
  for (std::size_t i = 0; i < 3; ++i) run.set_rows(i, total);
}

}  // namespace

CpuKernel select_boxes_cpu() {
  return {.op = &kOpInfo<SelectBoxes>, .dtypes = {DType::kF32}, .prepare = [](CpuPrepare& prepare) {
            return cpu_step([op = prepare.op<SelectBoxes>()](CpuRun& run) { select_boxes(op, run); });
          }};
}

}  // namespace osprey
