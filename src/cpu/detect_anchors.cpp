// Candidates come best first, in portions (cpu/anchor_ranking.h), each larger than the last, until there are
// detections enough: mostly the first does. Only they are decoded. With soft suppression those that were
// decayed wait in a heap of their own.
#include "ops/detect_anchors.h"

#include <algorithm>
#include <cmath>

#include "cpu/anchor_ranking.h"
#include "cpu/boxes.h"
#include "cpu/kept_boxes.h"

namespace osprey {
namespace {

constexpr std::size_t kLeastPortion = 1024, kGrowth = 4;

struct Candidate {
  Rank rank;
  Box box;
  AnchorPlace place;
  std::int64_t seen = 0;  // kept boxes that it was compared with
};

// What a run asks for.
struct Rules {
  float threshold, iou;
  std::int64_t most;
};

// Suppression within one image, and its detections.
class Suppressor {
 public:
  struct Detection {
    Box box;
    float score;
    AnchorPlace place;
  };

  explicit Suppressor(const DetectAnchors& op)
      : op_(op),
        scale_(op.soft_sigma > 0 ? -0.5f / op.soft_sigma : 0),
        kept_(nullptr, 0),
        of_group_(static_cast<std::size_t>(op.agnostic ? 1 : op.classes)) {
    grow();
  }

  void start(const Rules& rules, const Geometry& geometry) {
    rules_ = rules, geometry_ = geometry;
    kept_.count = 0;
    std::fill(of_group_.begin(), of_group_.end(), 0);
    waiting_.clear();
    detections_.clear();
  }
  bool done() const { return static_cast<std::int64_t>(detections_.size()) >= rules_.most; }
  // Takes a candidate that is below all offered before it.
  void offer(const Candidate& candidate) {
    settle_down_to(candidate.rank);
    if (!done()) judge(candidate);
  }
  // After the last candidate.
  void finish() { settle_down_to(0); }
  std::span<const Detection> detections() const { return detections_; }

 private:
  static bool later(const Candidate& a, const Candidate& b) { return a.rank < b.rank; }

  // Judges the decayed ones whose turn is before that of `rank`.
  void settle_down_to(Rank rank) {
    while (!done() && !waiting_.empty() && waiting_.front().rank > rank) {
      std::pop_heap(waiting_.begin(), waiting_.end(), later);
      const Candidate next = waiting_.back();
      waiting_.pop_back();
      judge(next);
    }
  }

  void judge(Candidate candidate) {
    const auto group = static_cast<std::int32_t>(op_.agnostic ? 0 : candidate.place.classification);
    if (op_.max_per_class > 0 && of_group_[static_cast<std::size_t>(group)] >= op_.max_per_class) return;
    if (op_.soft_sigma > 0) {
      const float score = decayed(candidate, group);
      if (!(score > rules_.threshold)) return;
      if (score != score_of(candidate.rank)) {
        candidate.rank = rank_of(score, index_of(candidate.rank));
        candidate.seen = kept_.count;
        waiting_.push_back(candidate);
        std::push_heap(waiting_.begin(), waiting_.end(), later);
        return;
      }
    } else if (suppressed(kept_, candidate.box, group, rules_.iou)) {
      return;
    }
    keep(candidate, group);
  }

  // The score after all kept boxes of the group that it was not compared with yet, the newest first;
  // -infinity when one of them overlaps too much.
  float decayed(const Candidate& candidate, std::int32_t group) const {
    constexpr float kDropped = -std::numeric_limits<float>::infinity();
    float score = score_of(candidate.rank);
    for (std::int64_t i = kept_.count - 1; i >= candidate.seen; --i) {
      if (kept_.group[i] != group) continue;
      const float iou = kept_.iou(i, candidate.box);
      if (iou > rules_.iou) return kDropped;
      if (!(iou > 0)) continue;  // NaN: boxes without area
      score *= std::exp(scale_ * iou * iou);
      if (!(score > rules_.threshold)) return kDropped;
    }
    return score;
  }

  void keep(const Candidate& candidate, std::int32_t group) {
    if (kept_.count == capacity_) grow();
    kept_.add(candidate.box, group);
    ++of_group_[static_cast<std::size_t>(group)];
    Box box = candidate.box;
    if (op_.clip != KeptClip::kNone) box = clip_box(box, geometry_.clip_height, geometry_.clip_width);
    if (op_.clip == KeptClip::kDropEmpty && !has_extent(box)) return;
    detections_.push_back({box, score_of(candidate.rank), candidate.place});
  }

  void grow() {
    const KeptBoxes old = kept_;
    const std::int64_t capacity = std::max(2 * capacity_, KeptBoxes::whole_blocks(op_.max_detections));
    std::vector<float> memory(static_cast<std::size_t>(KeptBoxes::kColumns * capacity));
    for (std::int64_t c = 0; c < KeptBoxes::kColumns && old.count > 0; ++c)
      std::copy_n(memory_.begin() + c * capacity_, old.count, memory.begin() + c * capacity);
    memory_ = std::move(memory), capacity_ = capacity;
    kept_ = KeptBoxes(memory_.data(), capacity);
    kept_.count = old.count;
  }

  DetectAnchors op_;
  float scale_;  // of the decay's exponent
  Rules rules_{};
  Geometry geometry_{};
  KeptBoxes kept_;
  std::vector<float> memory_;  // of kept_
  std::int64_t capacity_ = 0;
  std::vector<std::int32_t> of_group_;  // boxes kept of each
  std::vector<Candidate> waiting_;      // a heap, decayed
  std::vector<Detection> detections_;
};

class DetectAnchorsStep final : public CpuStep {
 public:
  explicit DetectAnchorsStep(const CpuPrepare& prepare)
      : op_(prepare.op<DetectAnchors>()),
        ranking_(prepare),
        suppressor_(op_),
        decode_(op_.weights, op_.max_log_scale, op_.delta_order) {}

  void run(CpuRun& run) override {
    const CpuValue& geometry = run.in(2 * op_.levels());
    const Rules rules = rules_of(run.parameters());
    std::int64_t total = 0;
    for (std::int64_t n = 0; n < geometry.dims[0]; ++n) {
      detect(run, n, rules, rows_of<Geometry>(geometry)[n]);
      total = write(run, n, total);
    }
    for (std::size_t i = 0; i < 4; ++i) run.set_rows(i, total);
  }

 private:
  Rules rules_of(const RunParameters& p) const {
    if (op_.stage == 1) return {p.first_score_threshold.value_or(op_.threshold), op_.iou, op_.max_detections};
    return {p.score_threshold.value_or(op_.threshold), p.nms_iou.value_or(op_.iou),
            std::clamp(p.max_detections.value_or(op_.max_detections), 0, op_.max_detections)};
  }

  void detect(CpuRun& run, std::int64_t image, const Rules& rules, const Geometry& geometry) {
    suppressor_.start(rules, geometry);
    Rank below = AnchorRanking::kAll;
    for (std::size_t wanted = kLeastPortion + kGrowth * static_cast<std::size_t>(op_.max_detections);
         !suppressor_.done(); wanted *= kGrowth) {
      const std::span<const Rank> portion = ranking_.best(run, image, rules.threshold, wanted, below);
      for (const Rank rank : portion) {
        const AnchorPlace place = ranking_.place(rank);
        const Box box = decoded(run, image, geometry, place.row);
        if (has_nan(box)) continue;
        suppressor_.offer({rank, box, place});
        if (suppressor_.done()) return;
      }
      if (portion.size() < wanted) break;
      below = portion.back();
    }
    suppressor_.finish();
  }

  Box decoded(CpuRun& run, std::int64_t image, const Geometry& geometry, std::uint32_t row) const {
    const auto place = ranking_.place_in_level(row);
    const std::size_t level = place.first;
    const std::int64_t at = place.second;
    const CpuPlanes planes(run.in(2 * level + 1));
    const float* const deltas = rows_of<float>(run.in(2 * level + 1));
    const std::int64_t anchors = op_.anchors_of(level), anchor = at % anchors, pixel = at / anchors;
    const std::int64_t y = pixel / planes.width, x = pixel % planes.width;
    float delta[4];
    for (std::int64_t d = 0; d < 4; ++d) delta[d] = deltas[planes.at(image, 4 * anchor + d, y, x)];
    const float* const cell = op_.cells.data() + (op_.first_cell(level) + anchor) * 4;
    const auto shift = [&](std::int64_t cells, std::size_t axis) {
      return (static_cast<float>(cells) + op_.of_level(op_.offsets, level, axis)) *
             op_.of_level(op_.strides, level, axis);
    };
    const float dy = shift(y, 0), dx = shift(x, 1);
    Box box{cell[0] + dx, cell[1] + dy, cell[2] + dx, cell[3] + dy};
    if (op_.clip_anchors) {
      const bool canvas = op_.canvas_height > 0;
      box = clip_box(box, canvas ? static_cast<float>(op_.canvas_height) : geometry.clip_height,
                     canvas ? static_cast<float>(op_.canvas_width) : geometry.clip_width);
    }
    return decode_(box, delta);
  }

  std::int64_t write(CpuRun& run, std::int64_t image, std::int64_t at) const {
    Roi* const boxes = mutable_rows_of<Roi>(run.out(0));
    auto* const scores = mutable_rows_of<float>(run.out(1));
    auto* const classes = mutable_rows_of<std::int32_t>(run.out(2));
    auto* const rows = mutable_rows_of<std::int32_t>(run.out(3));
    for (const auto& [box, score, place] : suppressor_.detections()) {
      boxes[at] = {static_cast<float>(image), box}, scores[at] = score;
      classes[at] = static_cast<std::int32_t>(place.classification);
      rows[at++] = static_cast<std::int32_t>(place.row);
    }
    return at;
  }

  DetectAnchors op_;
  AnchorRanking ranking_;
  Suppressor suppressor_;
  BoxDecoder decode_;
};

}  // namespace

CpuKernel detect_anchors_cpu() {
  return {.op = &kOpInfo<DetectAnchors>,
          .dtypes = {DType::kF32},
          .input = any_port,
          .prepare = [](CpuPrepare& prepare) -> std::unique_ptr<CpuStep> {
            return std::make_unique<DetectAnchorsStep>(prepare);
          }};
}

}  // namespace osprey
