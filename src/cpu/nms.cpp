// Greedy: candidates come by descending score, each is compared with the boxes kept so far, many at a time,
// and it ends with the last detection asked for. Images run in parallel.
#include "ops/nms.h"

#include <algorithm>
#include <functional>

#include "cpu/boxes.h"
#include "cpu/ranking.h"
#include "cpu/scratch.h"
#include "cpu/vectors.h"

namespace osprey {
namespace {

constexpr std::int64_t kBlock = 64;  // kept boxes compared before looking whether one overlaps

// The boxes kept so far, a column each; zeros behind them, which overlap nothing.
struct Kept {
  float *x0, *y0, *x1, *y1, *area;
  std::int32_t* group;
  std::int64_t count = 0;

  void add(const Box& b, std::int32_t g) {
    x0[count] = b.x0, y0[count] = b.y0, x1[count] = b.x1, y1[count] = b.y1;
    area[count] = b.area(), group[count] = g;
    ++count;
  }
};

// Whether a kept box of the same group overlaps by more than `iou`. NaN compares false all through.
[[gnu::always_inline]] inline bool suppressed(const Kept* kept, const Box* box, std::int32_t group,
                                              float iou) {
  const float bx0 = box->x0, by0 = box->y0, bx1 = box->x1, by1 = box->y1, area = box->area();
  for (std::int64_t begin = 0; begin < kept->count; begin += kBlock) {
    const float *x0 = kept->x0 + begin, *y0 = kept->y0 + begin, *x1 = kept->x1 + begin,
                *y1 = kept->y1 + begin;
    const float* areas = kept->area + begin;
    const std::int32_t* groups = kept->group + begin;
    std::int32_t hits = 0;
    for (std::int64_t i = 0; i < kBlock; ++i) {
      const float left = x0[i] < bx0 ? bx0 : x0[i], top = y0[i] < by0 ? by0 : y0[i];
      const float right = bx1 < x1[i] ? bx1 : x1[i], bottom = by1 < y1[i] ? by1 : y1[i];
      const float w = right - left > 0 ? right - left : 0, h = bottom - top > 0 ? bottom - top : 0;
      const float common = w * h;
      hits |= (common / (areas[i] + area - common) > iou) & (groups[i] == group);
    }
    if (hits) return true;
  }
  return false;
}

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

// Writes the kept rows of one image by descending score and returns how many.
std::int32_t suppress(const Candidates& in, Rows rows, float iou, std::int64_t most, bool together,
                      Rank* order, Kept kept, std::int32_t* out) {
  for (std::int32_t r = rows.begin; r < rows.end; ++r)
    order[r] = rank_of(in.scores[r], static_cast<std::uint32_t>(r));
  std::sort(order + rows.begin, order + rows.end, std::greater<>());
  const float spread = together ? group_spread(in, rows) : 0;
  for (std::int32_t i = rows.begin; i < rows.end && kept.count < most; ++i) {
    const auto r = static_cast<std::int32_t>(index_of(order[i]));
    const std::int32_t group = together ? 0 : in.groups[r];
    const float offset = together ? static_cast<float>(in.groups[r]) * spread : 0;
    const Box& b = in.boxes[r].box;
    const Box box{b.x0 + offset, b.y0 + offset, b.x1 + offset, b.y1 + offset};
    if (vectorised<suppressed>(&std::as_const(kept), &box, group, iou)) continue;
    out[kept.count] = r;
    kept.add(box, group);
  }
  return static_cast<std::int32_t>(kept.count);
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
    const float iou = last ? parameters.nms_iou.value_or(op_.iou) : op_.iou;
    const int wanted = last ? parameters.max_detections.value_or(op_.max_detections) : op_.max_detections;
    const std::int64_t most = std::clamp(wanted, 0, op_.max_detections);
    cpu_for(images, run.threads(), [&](std::int64_t n) {
      const bool together = images_[n].size() <= op_.offset_limit;
      kept_[n] = suppress(in, images_[n], iou, most, together, order_, kept_columns(n),
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
    column_ = (op_.max_detections + kBlock - 1) / kBlock * kBlock;
    columns_ = layout_.take<float>(images * 6 * column_);
  }

  Kept kept_columns(std::int64_t n) const {
    float* c = columns_ + n * 6 * column_;
    std::fill_n(c, 6 * column_, 0.0f);
    return {c,
            c + column_,
            c + 2 * column_,
            c + 3 * column_,
            c + 4 * column_,
            reinterpret_cast<std::int32_t*>(c + 5 * column_)};
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
    std::int64_t total = 0;
    for (std::int64_t n = 0; n < images; ++n)
      for (std::int32_t i = 0; i < kept_[n]; ++i, ++total) {
        const std::int32_t r = kept_rows_[n * op_.max_detections + i];
        boxes[total] = in.boxes[r], scores[total] = in.scores[r], groups[total] = in.groups[r];
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
