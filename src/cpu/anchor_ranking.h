// The candidates of ops/detect_anchors.h in the order of their ranks, as many as are asked for: the scores
// are read once, each thread keeps the best it has met, and what cannot be among the best any more is passed
// over by comparing logits, many at a time.
#pragma once

#include <atomic>
#include <limits>
#include <span>
#include <vector>

#include "cpu/kernel.h"
#include "cpu/ranking.h"
#include "ops/detect_anchors.h"

namespace osprey {

// A candidate's place among those of equal score, from which it can be told again. `row` counts the anchors
// of an image: level, y, x, anchor.
struct AnchorPlace {
  std::uint32_t row, classification;
};

class AnchorRanking {
 public:
  explicit AnchorRanking(const CpuPrepare& prepare);

  static constexpr Rank kAll = std::numeric_limits<Rank>::max();
  // The best `wanted` candidates of an image with a score above `threshold` and a rank below `below`, sorted;
  // fewer only when there are no more. Valid until the next call.
  std::span<const Rank> best(CpuRun& run, std::int64_t image, float threshold, std::size_t wanted,
                             Rank below);
  AnchorPlace place(Rank rank) const;
  // The level of a row, and its place there: pixel * anchors + anchor.
  std::pair<std::size_t, std::int64_t> place_in_level(std::uint32_t row) const;

 private:
  struct Slice {
    std::size_t level;
    std::int64_t begin, end;  // pixels
  };
  // What a thread has met.
  struct Collector {
    std::vector<Rank> ranks;
    float floor = 0;  // raw values below cannot be among the best
  };
  struct Search {
    std::int64_t image = 0;
    float threshold = 0;
    std::size_t wanted = 0;
    Rank below = kAll;
  };

  void scan_sigmoids(const CpuValue& scores, const Slice& slice, Collector& collector);
  void scan_best_sigmoids(const CpuValue& scores, const Slice& slice, Collector& collector);
  void scan_softmax(const CpuValue& scores, const Slice& slice, Collector& collector);
  template <class IsBest>
  void offer(float score, std::size_t level, std::int64_t pixel, std::int64_t anchor, std::int64_t column,
             Collector& collector, IsBest&& is_best);
  void shrink(Collector& collector);
  void set_floor(Collector& collector) const;
  Rank rank(float score, std::int64_t row, std::int64_t classification) const;

  DetectAnchors op_;
  std::vector<std::int64_t> first_row_;  // of each level, and behind the last
  std::vector<Slice> slices_;
  std::vector<Collector> collectors_;  // one a thread
  std::vector<Rank> best_;
  Search search_;
  std::atomic<Rank> bound_ = 0;  // at least `wanted` candidates have this rank or a greater one
};

}  // namespace osprey
