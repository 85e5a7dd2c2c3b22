#include "ops/detect_queries.h"

#include <algorithm>

#include "cpu/boxes.h"
#include "cpu/ranking.h"

namespace osprey {
namespace {

struct Outputs {
  Roi* boxes;
  float* scores;
  std::int32_t *classes, *rows;
};

Box corners_of(const float* box, const Geometry& g) {
  const float cx = box[0], cy = box[1], w = box[2], h = box[3];
  return {(cx - 0.5f * w) * g.clip_width, (cy - 0.5f * h) * g.clip_height, (cx + 0.5f * w) * g.clip_width,
          (cy + 0.5f * h) * g.clip_height};
}

class Detector {
 public:
  Detector(const DetectQueries& op, CpuRun& run)
      : op_(op),
        run_(run),
        logits_(run.input<float, 2>(0)),
        boxes_(run.input<float, 2>(1)),
        top_(std::clamp(run.parameters().max_detections.value_or(op.top), 0, op.top)),
        threshold_(run.parameters().score_threshold.value_or(op.threshold)) {}

  // Writes an image's detections and returns how many.
  std::int64_t write(std::int64_t image, Rank* ranks, const Outputs& out) const {
    const std::int64_t candidates = op_.queries * logits_.dim(1);
    const float* logits = logits_.at(image * op_.queries);
    for (std::int64_t i = 0; i < candidates; ++i)
      ranks[i] = rank_of(sigmoid(logits[i]), static_cast<std::uint32_t>(i));
    std::partial_sort(ranks, ranks + top_, ranks + candidates, std::greater<>());
    std::int64_t count = 0;
    for (; count < top_ && score_of(ranks[count]) > threshold_; ++count)
      write_one(image, ranks[count], out, count);
    return count;
  }

 private:
  void write_one(std::int64_t image, Rank rank, const Outputs& out, std::int64_t at) const {
    const std::int64_t classes = logits_.dim(1), row = image * op_.queries + index_of(rank) / classes;
    const Geometry& g = rows_of<Geometry>(run_.in(2))[image];
    out.boxes[at] = {static_cast<float>(image), corners_of(boxes_.at(row), g)};
    out.scores[at] = score_of(rank);
    out.classes[at] = static_cast<std::int32_t>(index_of(rank) % classes);
    out.rows[at] = static_cast<std::int32_t>(row);
  }

  const DetectQueries& op_;
  CpuRun& run_;
  View<const float, 2> logits_, boxes_;
  int top_;
  float threshold_;
};

void detect(const DetectQueries& op, CpuRun& run) {
  const Detector detector(op, run);
  auto* const ranks = reinterpret_cast<Rank*>(run.scratch().data());
  std::int64_t total = 0;
  for (std::int64_t image = 0; image < run.in(2).dims[0]; ++image)
    total +=
        detector.write(image, ranks,
                       {mutable_rows_of<Roi>(run.out(0)) + total, mutable_rows_of<float>(run.out(1)) + total,
                        mutable_rows_of<std::int32_t>(run.out(2)) + total,
                        mutable_rows_of<std::int32_t>(run.out(3)) + total});
  for (std::size_t i = 0; i < 4; ++i) run.set_rows(i, total);
}

}  // namespace

CpuKernel detect_queries_cpu() {
  return {.op = &kOpInfo<DetectQueries>, .dtypes = {DType::kF32}, .prepare = [](CpuPrepare& p) {
            const auto& op = p.op<DetectQueries>();
            p.request_scratch(static_cast<std::size_t>(op.queries * p.input(0).dims[1]) * sizeof(Rank));
            return cpu_step([op](CpuRun& run) { detect(op, run); });
          }};
}

}  // namespace osprey
