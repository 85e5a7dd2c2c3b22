#include "cpu/anchor_ranking.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include <omp.h>

#include "cpu/boxes.h"
#include "cpu/vectors.h"

namespace osprey {
namespace {

constexpr std::int64_t kSlice = 65536;  // scores a task, about
constexpr std::int64_t kRun = 64;       // scores looked at together
constexpr std::int64_t kAnchors = 16;   // whose best classes are found together
constexpr std::size_t kRoom = 4;        // times as many ranks as are wanted are collected before choosing

// Whether any of kRun scores is at least `floor`.
[[gnu::always_inline]] inline bool any_at_least(const float* scores, float floor) {
  std::int32_t any = 0;
  for (std::int64_t i = 0; i < kRun; ++i) any |= scores[i] >= floor;
  return any != 0;
}

// The largest of each of `runs` runs of `length` values, NaNs apart; -infinity where there is none.
[[gnu::always_inline]] inline void largest_of_runs(const float* values, std::int64_t length,
                                                   std::int64_t runs, float* largest) {
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  for (std::int64_t r = 0; r < runs; ++r, values += length) {
    float lanes[16];
    std::fill_n(lanes, 16, kNone);
    std::int64_t i = 0;
    for (; i + 16 <= length; i += 16)
      for (std::int64_t k = 0; k < 16; ++k) lanes[k] = values[i + k] > lanes[k] ? values[i + k] : lanes[k];
    for (std::int64_t k = 0; i + k < length; ++k)
      lanes[k] = values[i + k] > lanes[k] ? values[i + k] : lanes[k];
    for (std::int64_t half = 8; half > 0; half /= 2)
      for (std::int64_t k = 0; k < half; ++k)
        lanes[k] = lanes[k + half] > lanes[k] ? lanes[k + half] : lanes[k];
    largest[r] = lanes[0];
  }
}

// A logit that is not above that of any candidate whose probability is at least `score`.
float logit_floor(float score) {
  if (!(score > 0)) return std::numeric_limits<float>::lowest();
  const float p = std::min(score, 0.999f);  // beyond it rounding makes the inverse too coarse
  return std::log(p / (1 - p)) - 0.01f;
}

}  // namespace

AnchorRanking::AnchorRanking(const CpuPrepare& prepare)
    : op_(prepare.op<DetectAnchors>()), collectors_(static_cast<std::size_t>(prepare.threads())) {
  first_row_.push_back(0);
  for (std::size_t l = 0; l < op_.levels(); ++l) {
    const Shape& dims = prepare.input(2 * l).dims;
    const std::int64_t pixels = dims[2] * dims[3];
    const std::int64_t step = std::max(kSlice / dims[1], std::int64_t{1});
    for (std::int64_t p = 0; p < pixels; p += step) slices_.push_back({l, p, std::min(p + step, pixels)});
    first_row_.push_back(first_row_.back() + pixels * op_.anchors_of(l));
  }
  require(first_row_.back() <= std::numeric_limits<std::uint32_t>::max() / op_.classes,
          "{}: {} anchors of {} classes are more candidates than can be numbered", prepare.node().name,
          first_row_.back(), op_.classes);
}

std::span<const Rank> AnchorRanking::best(CpuRun& run, std::int64_t image, float threshold,
                                          std::size_t wanted, Rank below) {
  search_ = {image, threshold, wanted, below};
  bound_ = 0;
  for (Collector& c : collectors_) {
    c.ranks.clear();
    c.ranks.reserve(std::min(wanted * kRoom, static_cast<std::size_t>(first_row_.back() * op_.classes)));
  }
  cpu_for(static_cast<std::int64_t>(slices_.size()), run.threads(), [&](std::int64_t i) {
    const Slice& slice = slices_[static_cast<std::size_t>(i)];
    Collector& collector = collectors_[static_cast<std::size_t>(omp_get_thread_num())];
    set_floor(collector);
    const CpuValue& scores = run.in(2 * slice.level);
    if (op_.scores == AnchorScores::kSoftmaxSkipFirst) {
      scan_softmax(scores, slice, collector);
    } else {
      scan_sigmoids(scores, slice, collector);
    }
  });
  best_.clear();
  for (const Collector& c : collectors_) best_.insert(best_.end(), c.ranks.begin(), c.ranks.end());
  if (best_.size() > wanted) {
    std::nth_element(best_.begin(), best_.begin() + static_cast<std::ptrdiff_t>(wanted), best_.end(),
                     std::greater<>());
    best_.resize(wanted);
  }
  std::sort(best_.begin(), best_.end(), std::greater<>());
  return best_;
}

AnchorPlace AnchorRanking::place(Rank rank) const {
  const std::uint32_t index = index_of(rank);
  const auto classes = static_cast<std::uint32_t>(op_.classes);
  const auto rows = static_cast<std::uint32_t>(first_row_.back());
  if (op_.agnostic) return {index / classes, index % classes};
  return {index % rows, index / rows};
}

std::pair<std::size_t, std::int64_t> AnchorRanking::place_in_level(std::uint32_t row) const {
  std::size_t level = 0;
  while (first_row_[level + 1] <= row) ++level;
  return {level, row - first_row_[level]};
}

Rank AnchorRanking::rank(float score, std::int64_t row, std::int64_t classification) const {
  const std::int64_t index =
      op_.agnostic ? row * op_.classes + classification : classification * first_row_.back() + row;
  return rank_of(score, static_cast<std::uint32_t>(index));
}

void AnchorRanking::set_floor(Collector& collector) const {
  const Rank bound = bound_.load(std::memory_order_relaxed);
  collector.floor = logit_floor(bound == 0 ? search_.threshold : score_of(bound));
}

// Leaves the best `wanted` and tells all threads what they need not look at any more.
void AnchorRanking::shrink(Collector& collector) {
  const auto last = collector.ranks.begin() + static_cast<std::ptrdiff_t>(search_.wanted) - 1;
  std::nth_element(collector.ranks.begin(), last, collector.ranks.end(), std::greater<>());
  Rank known = bound_.load(std::memory_order_relaxed);
  while (known < *last && !bound_.compare_exchange_weak(known, *last, std::memory_order_relaxed)) {
  }
  collector.ranks.resize(search_.wanted);
  set_floor(collector);
}

template <class IsBest>
void AnchorRanking::offer(float score, std::size_t level, std::int64_t pixel, std::int64_t anchor,
                          std::int64_t column, Collector& collector, IsBest&& is_best) {
  if (!(score > search_.threshold)) return;
  const std::int64_t row = first_row_[level] + pixel * op_.anchors_of(level) + anchor;
  const Rank candidate = rank(score, row, column - op_.first_column());
  if (candidate >= search_.below || candidate < bound_.load(std::memory_order_relaxed)) return;
  if (op_.best_class_only && !is_best()) return;
  collector.ranks.push_back(candidate);
  if (collector.ranks.size() == search_.wanted * kRoom) shrink(collector);
}

// Of maps whose classes lie side by side: the best class of every anchor.
void AnchorRanking::scan_best_sigmoids(const CpuValue& scores, const Slice& slice, Collector& collector) {
  const CpuPlanes planes(scores);
  const std::int64_t columns = op_.columns(), anchors = op_.anchors_of(slice.level);
  const float* from =
      rows_of<float>(scores) + search_.image * planes.plane_size() + slice.begin * planes.lanes;
  for (std::int64_t pixel = slice.begin; pixel < slice.end; ++pixel, from += planes.lanes) {
    for (std::int64_t first = 0; first < anchors; first += kAnchors) {
      float largest[kAnchors];
      const std::int64_t count = std::min(kAnchors, anchors - first);
      const float* values = from + first * columns;
      vectorised<largest_of_runs>(values, columns, count, static_cast<float*>(largest));
      for (std::int64_t a = 0; a < count; ++a, values += columns)
        if (largest[a] >= collector.floor)
          offer(sigmoid(largest[a]), slice.level, pixel, first + a,
                std::find(values, values + columns, largest[a]) - values, collector, [] { return true; });
    }
  }
}

void AnchorRanking::scan_sigmoids(const CpuValue& scores, const Slice& slice, Collector& collector) {
  const CpuPlanes planes(scores);
  if (op_.best_class_only && op_.first_column() == 0 && planes.per_image == 1)
    return scan_best_sigmoids(scores, slice, collector);
  const std::int64_t columns = op_.columns(), image = search_.image, width = planes.width;
  const float* const all = rows_of<float>(scores);
  const auto each = [&](float raw, std::int64_t pixel, std::int64_t channel) {
    if (!(raw >= collector.floor)) return;
    const std::int64_t anchor = channel / columns, column = channel % columns;
    if (column < op_.first_column()) return;
    offer(sigmoid(raw), slice.level, pixel, anchor, column, collector, [&] {
      for (std::int64_t k = op_.first_column(); k < columns; ++k) {
        const float other = all[planes.at(image, anchor * columns + k, pixel / width, pixel % width)];
        if (other > raw || (other == raw && k < column)) return false;
      }
      return true;
    });
  };
  for (std::int64_t plane = 0; plane < planes.per_image; ++plane) {
    const std::int64_t lanes = planes.lanes, live = planes.live_lanes(plane);
    const float* from = all + (image * planes.per_image + plane) * planes.plane_size();
    const std::int64_t end = slice.end * lanes;
    for (std::int64_t i = slice.begin * lanes; i < end; i += kRun) {
      const std::int64_t stop = std::min(i + kRun, end);
      if (stop - i == kRun && !vectorised<any_at_least>(from + i, collector.floor)) continue;
      std::int64_t pixel = i / lanes, lane = i - pixel * lanes;
      for (std::int64_t at = i; at < stop; ++at) {
        if (lane < live) each(from[at], pixel, plane * lanes + lane);
        if (++lane == lanes) lane = 0, ++pixel;
      }
    }
  }
}

void AnchorRanking::scan_softmax(const CpuValue& scores, const Slice& slice, Collector& collector) {
  const CpuPlanes planes(scores);
  const std::int64_t columns = op_.columns();
  const float* const all = rows_of<float>(scores);
  for (std::int64_t pixel = slice.begin; pixel < slice.end; ++pixel)
    for (std::int64_t anchor = 0; anchor < op_.anchors_of(slice.level); ++anchor) {
      const auto logit = [&](std::int64_t k) {
        return all[planes.at(search_.image, anchor * columns + k, pixel / planes.width,
                             pixel % planes.width)];
      };
      const float background = logit(0);
      std::int64_t best = 1;
      for (std::int64_t k = 2; k < columns; ++k)
        if (logit(k) > logit(best)) best = k;
      // A class has at most what would be its share without the other classes.
      if (!(logit(best) - background >= collector.floor)) continue;
      const float largest = std::max(background, logit(best));
      float sum = 0;
      for (std::int64_t k = 0; k < columns; ++k) sum += std::exp(logit(k) - largest);
      for (std::int64_t k = 1; k < columns; ++k) {
        if (op_.best_class_only && k != best) continue;
        if (!(logit(k) - background >= collector.floor)) continue;
        offer(std::exp(logit(k) - largest) / sum, slice.level, pixel, anchor, k, collector,
              [] { return true; });
      }
    }
}

}  // namespace osprey
