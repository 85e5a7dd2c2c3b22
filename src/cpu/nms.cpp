// Greedy: candidates come by descending score from a heap, so that those behind the last detection asked for
// are never sorted; each is compared with the boxes kept so far, many at a time. Images run in parallel.
#include "ops/nms.h"

#include <algorithm>
#include <functional>

#include "cpu/boxes.h"
#include "cpu/kept_boxes.h"
#include "cpu/ranking.h"
#include "cpu/scratch.h"

namespace osprey {
namespace {

struct Candidates {
  const Roi* boxes;
  const float* scores;
  const std::int32_t* groups;
};

// Rows of one image: [begin, end).
struct Rows {
  std::int32_t begin = 0, end = 0;
  std::int32_t size() const { return end - begin; }
};

// Where a group's boxes are moved to, so that one pass over all groups does; 0 with `together` off.
float group_spread(const Candidates& in, Rows rows) {
  float largest = 0;
  for (std::int32_t r = rows.begin; r < rows.end; ++r) {
    const Box& b = in.boxes[r].box;
    const float here = std::max(std::max(b.x0, b.x1), std::max(b.y0, b.y1));
    if (r == rows.begin || here > largest) largest = here;
  }
  return largest + 1;
}

// What a run asks for.
struct Rules {
  float iou;
  std::int64_t most;  // detections of an image
  int max_per_group;  // 0: no limit
  KeptClip clip;
  bool group_first;
  bool suppresses;  // false: an iou of 0 between inclusive boxes
};

// The candidates of an image by descending score. Equal scores: by group, with group_first, then by row.
class Queue {
  struct Later {
    const std::int32_t* groups;  // null: rows alone decide

    bool operator()(Rank a, Rank b) const {
      if (!groups || a >> 32 != b >> 32) return a < b;
      const std::int32_t group_a = groups[index_of(a)], group_b = groups[index_of(b)];
      return group_a != group_b ? group_a > group_b : a < b;
    }
  };

 public:
  Queue(const Candidates& in, Rows rows, bool group_first, Rank* order)
      : later_{group_first ? in.groups : nullptr}, begin_(order + rows.begin), end_(order + rows.end) {
    for (std::int32_t r = rows.begin; r < rows.end; ++r)
      order[r] = rank_of(in.scores[r], static_cast<std::uint32_t>(r));
    std::make_heap(begin_, end_, later_);
  }
  bool empty() const { return begin_ == end_; }
  std::int32_t next() {
    std::pop_heap(begin_, end_, later_);
    return static_cast<std::int32_t>(index_of(*--end_));
  }

 private:
  Later later_;
  Rank *begin_, *end_;
};

Box kept_box(const Box& b, KeptClip clip, const Geometry& g) {
  return clip == KeptClip::kNone ? b : clip_box(b, g.clip_height, g.clip_width);
}

// Writes the rows of one image's detections by descending score and returns how many.
std::int32_t suppress(const Candidates& in, Rows rows, const Rules& rules, const Geometry& geometry,
                      bool together, Rank* order, KeptBoxes kept, std::int32_t* out) {
  const float spread = together ? group_spread(in, rows) : 0;
  std::int32_t found = 0;
  for (Queue queue(in, rows, rules.group_first, order); found < rules.most && !queue.empty();) {
    const std::int32_t r = queue.next();
    const std::int32_t group = together ? 0 : in.groups[r];
    const float offset = together ? static_cast<float>(in.groups[r]) * spread : 0;
    const Box& b = in.boxes[r].box;
    const Box box{b.x0 + offset, b.y0 + offset, b.x1 + offset, b.y1 + offset};
    if (rules.max_per_group > 0 &&
        std::count(kept.group, kept.group + kept.count, group) >= rules.max_per_group)
      continue;
    if (rules.suppresses && suppressed(kept, box, group, rules.iou)) continue;
    kept.add(box, group);
    if (rules.clip != KeptClip::kDropEmpty || has_extent(kept_box(b, rules.clip, geometry))) out[found++] = r;
  }
  return found;
}

class NmsStep final : public CpuStep {
 public:
  explicit NmsStep(CpuPrepare& prepare) : op_(prepare.op<Nms>()) {
    lay_out(nullptr, prepare.input(0).dims[0], prepare.input(3).dims[0]);
    prepare.request_scratch(layout_.size());
  }

  void run(CpuRun& run) override {
    const Candidates in{rows_of<Roi>(run.in(0)), rows_of<float>(run.in(1)), rows_of<std::int32_t>(run.in(2))};
    const std::int64_t images = run.in(3).dims[0], count = run.in(0).dims[0];
    lay_out(run.scratch().data(), count, images);
    find_images(in, count, images);

    const RunParameters& parameters = run.parameters();
    const bool last = op_.stage == 2;
    const int wanted = last ? parameters.max_detections.value_or(op_.max_detections) : op_.max_detections;
    const float iou = last ? parameters.nms_iou.value_or(op_.iou) : op_.iou;
    const Rules rules{.iou = iou,
                      .most = std::clamp(wanted, 0, op_.max_detections),
                      .max_per_group = op_.max_per_group,
                      .clip = op_.clip,
                      .group_first = op_.group_first,
                      .suppresses = !op_.inclusive || iou > 0};
    const auto* const geometry = rows_of<Geometry>(run.in(3));
    cpu_for(images, run.threads(), [&](std::int64_t n) {
      const bool together = images_[n].size() <= op_.offset_limit;
      kept_[n] = suppress(in, images_[n], rules, geometry[n], together, order_, kept_columns(n),
                          kept_rows_ + n * op_.max_detections);
    });
    write(in, images, run);
  }

 private:
  // The parts of the scratch; with null memory only their size.
  void lay_out(std::byte* memory, std::int64_t count, std::int64_t images) {
    layout_ = ScratchLayout(memory);
    order_ = layout_.take<Rank>(count);
    images_ = layout_.take<Rows>(images);
    kept_ = layout_.take<std::int32_t>(images);
    kept_rows_ = layout_.take<std::int32_t>(images * op_.max_detections);
    column_ = KeptBoxes::whole_blocks(op_.max_detections);
    // Boxes that the clip empties are kept, too: as many as there are candidates.
    const std::int64_t columns = op_.clip == KeptClip::kDropEmpty
                                     ? KeptBoxes::whole_blocks(count) + images * kKeptBlock
                                     : images * column_;
    columns_ = layout_.take<float>(KeptBoxes::kColumns * columns);
  }

  KeptBoxes kept_columns(std::int64_t n) const {
    const bool all = op_.clip == KeptClip::kDropEmpty;
    const std::int64_t begin = all ? KeptBoxes::whole_blocks(images_[n].begin) + n * kKeptBlock : n * column_;
    KeptBoxes kept(columns_ + KeptBoxes::kColumns * begin,
                   all ? KeptBoxes::whole_blocks(images_[n].size()) : column_);
    kept.inclusive = op_.inclusive;
    return kept;
  }

  void find_images(const Candidates& in, std::int64_t count, std::int64_t images) {
    std::fill_n(images_, images, Rows{});
    for (std::int32_t r = 0; r < count; ++r) {
      Rows& rows = images_[static_cast<int>(in.boxes[r].image)];
      if (rows.end == 0) rows.begin = r;
      rows.end = r + 1;
    }
  }

  void write(const Candidates& in, std::int64_t images, CpuRun& run) const {
    Roi* boxes = mutable_rows_of<Roi>(run.out(0));
    auto* scores = mutable_rows_of<float>(run.out(1));
    auto* groups = mutable_rows_of<std::int32_t>(run.out(2));
    const auto* const geometry = rows_of<Geometry>(run.in(3));
    std::int64_t total = 0;
    for (std::int64_t n = 0; n < images; ++n)
      for (std::int32_t i = 0; i < kept_[n]; ++i, ++total) {
        const std::int32_t r = kept_rows_[n * op_.max_detections + i];
        boxes[total] = {in.boxes[r].image, kept_box(in.boxes[r].box, op_.clip, geometry[n])};
        scores[total] = in.scores[r], groups[total] = in.groups[r];
      }
    for (std::size_t i = 0; i < 3; ++i) run.set_rows(i, total);
  }

  Nms op_;
  ScratchLayout layout_;
  Rank* order_ = nullptr;
  Rows* images_ = nullptr;
  std::int32_t *kept_ = nullptr, *kept_rows_ = nullptr;
  std::int64_t column_ = 0;
  float* columns_ = nullptr;
};

}  // namespace

CpuKernel nms_cpu() {
  return {.op = &kOpInfo<Nms>,
          .dtypes = {DType::kF32},
          .prepare = [](CpuPrepare& prepare) -> std::unique_ptr<CpuStep> {
            return std::make_unique<NmsStep>(prepare);
          }};
}

}  // namespace osprey
