// The best anchors of a level are found without sorting the level: histograms of ever lower digits of the
// candidates' ranks (cpu/ranking.h) narrow down the rank that the last of them has, until those at or above
// it are few enough to be collected and sorted. Reading the scores two or three times is all it takes. Only
// the chosen are decoded. Levels are scanned in slices that run in parallel; the result does not depend on
// them.
//
// Scores that are not finite are no candidates: they take nobody's place among the best.
#include "ops/select_anchors.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <limits>

#include "cpu/boxes.h"
#include "cpu/ranking.h"
#include "cpu/scratch.h"
#include "cpu/vectors.h"

namespace osprey {
namespace {

constexpr int kDigitBits = 11, kDigits = 1 << kDigitBits;
constexpr std::int64_t kSlice = 32768;  // scores a task, about
constexpr std::int64_t kRun = 64;       // scores looked at together

// Whether any of kRun scores is at least `floor`.
[[gnu::always_inline]] inline bool any_at_least(const float* scores, float floor) {
  std::int32_t any = 0;
  for (std::int64_t i = 0; i < kRun; ++i) any |= scores[i] >= floor;
  return any != 0;
}

// What a score must be, and below which raw value none can be.
struct Threshold {
  Activation activation = Activation::kNone;
  float above = -std::numeric_limits<float>::infinity();

  float activated(float raw) const { return activation == Activation::kSigmoid ? sigmoid(raw) : raw; }
  bool passes(float score) const { return score > above && std::isfinite(score); }
  // A raw value that is not above that of any candidate whose score is at least `score`.
  float floor_of(float score) const {
    if (activation != Activation::kSigmoid) return std::max(score, std::numeric_limits<float>::lowest());
    if (!(score > 0)) return std::numeric_limits<float>::lowest();
    const float p = std::min(score, 0.999f);  // beyond it rounding makes the inverse too coarse
    return std::log(p / (1 - p)) - 0.01f;
  }
};

// One level of one image: which ranks its best candidates have.
struct Search {
  std::int64_t image = 0;
  std::size_t level = 0;
  Rank bound = 0;           // candidates of at least this rank are wanted, or still undecided
  std::int64_t needed = 0;  // candidates wanted of the digit where the bound lies
  std::int64_t above = 0;   // candidates above that digit
  bool done = false;
  std::int32_t collected = 0, selected = 0;
};

struct Slice {
  std::size_t search = 0;
  std::int64_t begin = 0, end = 0;  // pixels
};

class SelectAnchorsStep final : public CpuStep {
 public:
  explicit SelectAnchorsStep(CpuPrepare& prepare)
      : op_(prepare.op<SelectAnchors>()),
        decode_(op_.weights, op_.max_log_scale, DeltaOrder::kXywh, op_.inclusive) {
    const std::int64_t images = prepare.input(0).dims[0];
    for (std::int64_t n = 0; n < images; ++n)
      for (std::size_t l = 0; l < op_.strides.size(); ++l) {
        const Shape& dims = prepare.input(2 * l).dims;
        const std::int64_t pixels = dims[2] * dims[3], channels = dims[1];
        const std::int64_t step = std::max(kSlice / channels, std::int64_t{1});
        for (std::int64_t p = 0; p < pixels; p += step)
          slices_.push_back({searches_.size(), p, std::min(p + step, pixels)});
        searches_.push_back({.image = n, .level = l});
      }
    capacity_ = 2 * std::int64_t{op_.top};
    lay_out(nullptr);
    prepare.request_scratch(layout_.size());
  }

  void run(CpuRun& run) override {
    lay_out(run.scratch().data());
    set_threshold(run.parameters());
    for (Search& s : searches_) s = {.image = s.image, .level = s.level, .needed = op_.top};
    narrow_down(run);
    collect(run);
    cpu_for(static_cast<std::int64_t>(searches_.size()), run.threads(),
            [&](std::int64_t i) { decode(run, i); });
    write(run);
  }

 private:
  struct Selected {
    Roi roi;
    float score;
    std::int32_t group;
  };

  void lay_out(std::byte* memory) {
    layout_ = ScratchLayout(memory);
    const auto searches = static_cast<std::int64_t>(searches_.size());
    histograms_ = layout_.take<std::uint32_t>(static_cast<std::int64_t>(slices_.size()) * kDigits);
    ranks_ = layout_.take<Rank>(searches * capacity_);
    selected_ = layout_.take<Selected>(searches * op_.top);
  }

  void set_threshold(const RunParameters& parameters) {
    threshold_ = {.activation = op_.activation};
    if (op_.has_threshold) threshold_.above = op_.threshold;
    if (op_.stage == 2 && parameters.score_threshold) threshold_.above = *parameters.score_threshold;
    if (op_.stage == 1 && parameters.first_score_threshold) {
      const float p = *parameters.first_score_threshold;
      threshold_.above = op_.activation == Activation::kSigmoid ? p : std::log(p / (1 - p));
    }
  }

  // Calls body(rank) for every candidate of the slice whose rank is at least the search's bound.
  template <class Body>
  void scan(CpuRun& run, const Slice& slice, Body&& body) const {
    const Search& search = searches_[slice.search];
    const CpuValue& value = run.in(2 * search.level);
    const CpuPlanes planes(value);
    const float floor = threshold_.floor_of(search.bound == 0 ? threshold_.above : score_of(search.bound));
    const auto each = [&](float raw, std::int64_t index) {
      if (!(raw >= floor)) return;
      const float score = threshold_.activated(raw);
      if (!threshold_.passes(score)) return;
      const Rank rank = rank_of(score, static_cast<std::uint32_t>(index));
      if (rank >= search.bound) body(rank);
    };
    for (std::int64_t plane = 0; plane < planes.per_image; ++plane) {
      const std::int64_t lanes = planes.lanes, live = planes.live_lanes(plane);
      const float* from =
          rows_of<float>(value) + (search.image * planes.per_image + plane) * planes.plane_size();
      const std::int64_t end = slice.end * lanes;
      for (std::int64_t i = slice.begin * lanes; i < end; i += kRun) {
        const std::int64_t stop = std::min(i + kRun, end);
        if (stop - i == kRun && !vectorised<any_at_least>(from + i, floor)) continue;
        std::int64_t pixel = i / lanes, lane = i - pixel * lanes;
        for (std::int64_t at = i; at < stop; ++at) {
          if (lane < live) each(from[at], pixel * planes.channels + plane * lanes + lane);
          if (++lane == lanes) lane = 0, ++pixel;
        }
      }
    }
  }

  void narrow_down(CpuRun& run) {
    const auto slices = static_cast<std::int64_t>(slices_.size());
    for (int known = 64;;) {  // the bits of the bound from here up are settled
      const int shift = std::max(known - kDigitBits, 0);
      const Rank mask = (Rank{1} << (known - shift)) - 1;
      cpu_for(slices, run.threads(), [&](std::int64_t i) {
        const Slice& slice = slices_[static_cast<std::size_t>(i)];
        const Search& search = searches_[slice.search];
        if (search.done) return;
        std::uint32_t* histogram = histograms_ + i * kDigits;
        std::fill_n(histogram, kDigits, 0);
        // Ranks above the digit under search are wanted for certain and no longer counted.
        const Rank prefix = search.bound >> shift & ~mask;
        scan(run, slice, [&](Rank rank) {
          if ((rank >> shift & ~mask) == prefix) ++histogram[rank >> shift & mask];
        });
      });
      bool done = true;
      for (std::size_t s = 0, slice = 0; s < searches_.size(); ++s) {
        const std::size_t first = slice;
        while (slice < slices_.size() && slices_[slice].search == s) ++slice;
        if (!searches_[s].done) settle_digit(searches_[s], first, slice, shift);
        done = done && searches_[s].done;
      }
      if (done) return;
      known = shift;
    }
  }

  // Adds up the slices' histograms and moves the bound to the digit that the last wanted candidate has.
  void settle_digit(Search& search, std::size_t first, std::size_t last, int shift) const {
    const auto count_of = [&](int digit) {
      std::int64_t count = 0;
      for (std::size_t i = first; i < last; ++i)
        count += histograms_[static_cast<std::int64_t>(i) * kDigits + digit];
      return count;
    };
    for (int digit = kDigits - 1; digit >= 0; --digit) {
      const std::int64_t count = count_of(digit);
      if (count < search.needed && digit > 0) {
        search.needed -= count;
        search.above += count;
        continue;
      }
      search.bound |= static_cast<Rank>(digit) << shift;
      search.done = search.above + count <= capacity_ || shift == 0;
      return;
    }
  }

  void collect(CpuRun& run) {
    cpu_for(static_cast<std::int64_t>(slices_.size()), run.threads(), [&](std::int64_t i) {
      const Slice& slice = slices_[static_cast<std::size_t>(i)];
      Search& search = searches_[slice.search];
      Rank* ranks = ranks_ + static_cast<std::int64_t>(slice.search) * capacity_;
      std::atomic_ref<std::int32_t> next(search.collected);
      scan(run, slice, [&](Rank rank) { ranks[next.fetch_add(1, std::memory_order_relaxed)] = rank; });
    });
  }

  bool too_small(const Box& b) const {
    if (!op_.inclusive) return !has_extent(b, op_.min_size);
    return !(b.width() + 1 >= op_.min_size && b.height() + 1 >= op_.min_size);
  }

  void decode(CpuRun& run, std::int64_t i) {
    Search& search = searches_[static_cast<std::size_t>(i)];
    Rank* ranks = ranks_ + i * capacity_;
    std::sort(ranks, ranks + search.collected, std::greater<>());
    const CpuPlanes planes(run.in(2 * search.level + 1));
    const float* deltas = rows_of<float>(run.in(2 * search.level + 1));
    const Geometry& g = rows_of<Geometry>(run.in(2 * op_.strides.size()))[search.image];
    const float* cells = op_.cells.data() + search.level * static_cast<std::size_t>(op_.anchors) * 4;
    const auto stride = static_cast<float>(op_.strides[search.level]);
    const std::int64_t wanted = std::min<std::int64_t>(search.collected, op_.top);
    Selected* out = selected_ + i * op_.top;
    for (std::int64_t k = 0; k < wanted; ++k) {
      const std::int64_t index = index_of(ranks[k]), channels = std::int64_t{op_.anchors} * op_.classes;
      const std::int64_t pixel = index / channels, channel = index % channels;
      const std::int64_t anchor = channel / op_.classes, y = pixel / planes.width, x = pixel % planes.width;
      float delta[4];
      for (std::int64_t d = 0; d < 4; ++d) delta[d] = deltas[planes.at(search.image, 4 * anchor + d, y, x)];
      const float* cell = cells + 4 * anchor;
      const float shift_x = (static_cast<float>(x) + op_.offset) * stride,
                  shift_y = (static_cast<float>(y) + op_.offset) * stride;
      Box box = decode_({cell[0] + shift_x, cell[1] + shift_y, cell[2] + shift_x, cell[3] + shift_y}, delta);
      if (!is_finite(box)) continue;
      const float edge = inclusive_pixel(op_.inclusive);
      if (op_.clip) box = clip_box(box, g.clip_height - edge, g.clip_width - edge);
      if (op_.drop_empty && too_small(box)) continue;
      const std::int64_t group =
          op_.group == AnchorGroup::kLevel ? static_cast<std::int64_t>(search.level) : channel % op_.classes;
      out[search.selected++] = {
          {static_cast<float>(search.image), box}, score_of(ranks[k]), static_cast<std::int32_t>(group)};
    }
  }

  void write(CpuRun& run) const {
    Roi* boxes = mutable_rows_of<Roi>(run.out(0));
    auto* const scores = mutable_rows_of<float>(run.out(1));
    auto* const groups = mutable_rows_of<std::int32_t>(run.out(2));
    std::int64_t total = 0;
    for (std::size_t s = 0; s < searches_.size(); ++s) {
      const Selected* from = selected_ + static_cast<std::int64_t>(s) * op_.top;
      for (std::int32_t i = 0; i < searches_[s].selected; ++i, ++total)
        boxes[total] = from[i].roi, scores[total] = from[i].score, groups[total] = from[i].group;
    }
    for (std::size_t i = 0; i < 3; ++i) run.set_rows(i, total);
  }

  SelectAnchors op_;
  BoxDecoder decode_;
  Threshold threshold_;
  std::vector<Search> searches_;  // image by image, level by level
  std::vector<Slice> slices_;     // in the order of the searches
  std::int64_t capacity_ = 0;     // ranks collected for a search, at most
  ScratchLayout layout_;
  std::uint32_t* histograms_ = nullptr;  // [slices, kDigits]
  Rank* ranks_ = nullptr;                // [searches, capacity]
  Selected* selected_ = nullptr;         // [searches, top]
};

}  // namespace

CpuKernel select_anchors_cpu() {
  return {.op = &kOpInfo<SelectAnchors>,
          .dtypes = {DType::kF32},
          .input = any_port,
          .prepare = [](CpuPrepare& prepare) -> std::unique_ptr<CpuStep> {
            return std::make_unique<SelectAnchorsStep>(prepare);
          }};
}

}  // namespace osprey
