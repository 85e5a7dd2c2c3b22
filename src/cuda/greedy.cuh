// Non-maximum suppression of an image by one block, exactly as the greedy pass by descending score
// (cpu/nms.cpp, cpu/detect_anchors.cpp) does it, but for the order in which soft suppression multiplies.
//
// The block holds a portion of the candidates, the best ones. Step by step it finds the best of those left,
// keeps it, and lets it suppress or decay the others: one pass over the portion and one barrier a step, no
// sorting. When what is left of the portion is worse than a candidate outside it may be, the next portion is
// found.
#pragma once

#include "cuda/block.cuh"
#include "cuda/boxes.cuh"
#include "graph/box_rules.h"

namespace osprey::cuda {

inline constexpr int kGreedyThreads = 1024, kGreedyWarps = kGreedyThreads / 32;
inline constexpr int kPortion = 4096;  // candidates that a portion has at least, if there are as many
inline constexpr int kListed = 16384;  // and at most

// What a run asks for.
struct GreedyRules {
  float iou, threshold;  // threshold: that a decayed score must stay above
  float decay;           // -0.5 / sigma; 0: hard suppression only
  int most;              // detections
  int max_per_group;     // 0: no limit
  bool one_group;
  KeptClip clip;
  float height, width;  // that boxes are clipped to
};

// Memory of one image.
struct GreedyMemory {
  Rank* listed;       // [kListed]: a portion as it is found
  Rank* ranks;        // [items]: candidates of the portion, 0: suppressed or kept
  Corners* boxes;     // [items]
  int* groups;        // [items]
  Corners* kept;      // [kept_size]
  int* kept_groups;   // [kept_size]
  int* of_group;      // [groups]: boxes kept of each
  Rank* found_ranks;  // [detections]
  Corners* found;     // [detections], clipped
};

// How many of each: `hard`: a portion replaces the last, otherwise it joins what is left.
struct GreedySizes {
  std::int64_t items, kept, groups, detections;
};

inline std::size_t greedy_bytes(const GreedySizes& s) {
  const auto bytes = [](std::int64_t count, std::size_t each) {
    return (static_cast<std::size_t>(count) * each + 15) / 16 * 16;
  };
  return bytes(kListed, sizeof(Rank)) + bytes(s.items, sizeof(Rank)) + bytes(s.items, sizeof(Corners)) +
         bytes(s.items, sizeof(int)) + bytes(s.kept, sizeof(Corners)) + bytes(s.kept, sizeof(int)) +
         bytes(s.groups, sizeof(int)) + bytes(s.detections, sizeof(Rank)) +
         bytes(s.detections, sizeof(Corners));
}

// The parts of greedy_bytes() at `memory`, which is 16-byte aligned.
__device__ inline GreedyMemory greedy_memory(std::byte* memory, const GreedySizes& s) {
  const auto take = [&]<class T>(T*, std::int64_t count) {
    auto* const at = reinterpret_cast<T*>(memory);
    memory += (static_cast<std::size_t>(count) * sizeof(T) + 15) / 16 * 16;
    return at;
  };
  GreedyMemory m{};
  m.listed = take(m.listed, kListed);
  m.ranks = take(m.ranks, s.items);
  m.boxes = take(m.boxes, s.items);
  m.groups = take(m.groups, s.items);
  m.kept = take(m.kept, s.kept);
  m.kept_groups = take(m.kept_groups, s.kept);
  m.of_group = take(m.of_group, s.groups);
  m.found_ranks = take(m.found_ranks, s.detections);
  m.found = take(m.found, s.detections);
  return m;
}

__device__ inline float overlap_of(const Corners& kept, const Corners& b) {
  const float left = kept.x0 < b.x0 ? b.x0 : kept.x0, top = kept.y0 < b.y0 ? b.y0 : kept.y0;
  const float right = b.x1 < kept.x1 ? b.x1 : kept.x1, bottom = b.y1 < kept.y1 ? b.y1 : kept.y1;
  const float w = right - left > 0 ? right - left : 0, h = bottom - top > 0 ? bottom - top : 0;
  const float common = w * h;
  if (common == 0) return 0;  // saves the division
  return common / (kept.area() + b.area() - common);
}

__device__ inline Rank warp_max(Rank v) {
  const auto high = static_cast<unsigned>(v >> 32), low = static_cast<unsigned>(v);
  const unsigned most = __reduce_max_sync(kAll, high);
  const unsigned rest = __reduce_max_sync(kAll, high == most ? low : 0);
  return Rank{most} << 32 | rest;
}

// Source: the candidates of an image.
//   each(below, f)     calls f(rank) for those whose rank is below `below`, from all threads together
//   box(rank, corners) false for a candidate that does not count
//   group(rank)        within which it is suppressed
// All threads of a block of kGreedyThreads call everything here.
template <class Source>
class Greedy {
 public:
  __device__ Greedy(const Source& source, const GreedyRules& rules, const GreedyMemory& memory, int groups,
                    int* histogram)
      : source_(source), rules_(rules), memory_(memory), histogram_(histogram) {
    for (int g = thread(); g < groups; g += kGreedyThreads) memory_.of_group[g] = 0;
    __syncthreads();
  }

  // The first portion, where it was found beforehand: `count` candidates in `listed`, all that have at least
  // the rank `floor`.
  __device__ void start(int count, Rank floor) {
    floor_ = floor;
    load(count);
  }

  // Leaves the detections, best first, in memory.found and found_ranks; returns how many.
  __device__ int run() {
    int found = 0;
    Winner last{};
    while (found < rules_.most) {
      const Winner best = next(last);
      last = {};
      if (best.rank < floor_) {
        extend();
        continue;
      }
      if (best.rank == 0) break;
      keep(best, found);
      last = best;
      if (rules_.one_group && last_is_full_) break;
    }
    __syncthreads();
    return found;
  }

 private:
  struct Winner {
    Rank rank;
    Corners box;
    int group;
  };

  __device__ static int thread() { return static_cast<int>(threadIdx.x); }

  // What is left of a candidate's rank beside a kept box of its group; 0: nothing.
  __device__ Rank beside(const Corners& kept, const Corners& box, Rank rank) const {
    const float iou = overlap_of(kept, box);
    if (iou > rules_.iou) return 0;
    if (rules_.decay == 0 || !(iou > 0)) return rank;
    const float score = score_of(rank) * exp_rounded(rules_.decay * iou * iou);
    return score > rules_.threshold ? rank_of(score, index_of(rank)) : 0;
  }

  // Lets the last kept box suppress the others and returns the best of those left; rank 0: none.
  __device__ Winner next(const Winner& last) {
    __shared__ Winner winners[2][kGreedyWarps];
    Rank best = 0;
    int place = 0;
    for (int i = thread(); i < items_; i += kGreedyThreads) {
      const Rank before = memory_.ranks[i];
      if (before == 0) continue;
      Rank rank = before;
      if (last.rank != 0) {
        if (rank == last.rank) {
          rank = 0;
        } else if (rules_.one_group || memory_.groups[i] == last.group) {
          rank = last_is_full_ ? 0 : beside(last.box, memory_.boxes[i], rank);
        }
        if (rank != before) memory_.ranks[i] = rank;
      }
      if (rank > best) best = rank, place = i;
    }
    Winner* const round = winners[parity_];
    parity_ ^= 1;  // the barrier of the round after the next keeps readers and writers apart
    const Rank of_warp = warp_max(best);
    if (of_warp == 0 ? lane_of_thread() == 0 : best == of_warp)
      round[warp_of_thread()] = {best, of_warp ? memory_.boxes[place] : Corners{},
                                 of_warp ? memory_.groups[place] : 0};
    __syncthreads();
    const Rank rank = round[lane_of_thread()].rank, most = warp_max(rank);
    return round[__ffs(static_cast<int>(__ballot_sync(kAll, rank == most))) - 1];
  }

  __device__ void keep(const Winner& best, int& found) {
    const int of_group = memory_.of_group[best.group] + 1;
    last_is_full_ = rules_.max_per_group > 0 && of_group >= rules_.max_per_group;
    Corners box = best.box;
    if (rules_.clip != KeptClip::kNone) box = clip_box(box, rules_.height, rules_.width);
    const bool emits = rules_.clip != KeptClip::kDropEmpty || has_extent(box);
    __syncthreads();  // all have read the count
    if (thread() == 0) {
      memory_.of_group[best.group] = of_group;
      memory_.kept[kept_] = best.box;
      memory_.kept_groups[kept_] = best.group;
      if (emits) memory_.found[found] = box, memory_.found_ranks[found] = best.rank;
    }
    ++kept_;
    found += emits;
  }

  // Takes the candidates of `listed` among the items.
  __device__ void load(int count) {
    __syncthreads();
    for (int i = thread(); i < count; i += kGreedyThreads) {
      Rank rank = memory_.listed[i];
      Corners box{};
      const int group = source_.group(rank);
      if (!source_.box(rank, &box)) rank = 0;
      if (rules_.max_per_group > 0 && memory_.of_group[group] >= rules_.max_per_group) rank = 0;
      for (int k = 0; k < kept_ && rank != 0; ++k)
        if (memory_.kept_groups[k] == group) rank = beside(memory_.kept[k], box, rank);
      memory_.ranks[items_ + i] = rank;
      memory_.boxes[items_ + i] = box;
      memory_.groups[items_ + i] = group;
    }
    items_ += count;
    __syncthreads();
  }

  // The next portion.
  __device__ void extend() {
    if (rules_.decay == 0) items_ = 0;  // none is left
    const Rank below = floor_;
    const auto candidates = [&](auto&& f) { source_.each(below, f); };
    const Rank bound = find_bound(candidates, kPortion, kListed, histogram_);
    const int count = collect(candidates, bound, memory_.listed, kListed);
    floor_ = count < kPortion ? 0 : bound;
    load(count);
  }

  Source source_;
  GreedyRules rules_;
  GreedyMemory memory_;
  int* histogram_;         // kDigits in shared memory
  Rank floor_ = ~Rank{0};  // candidates below it are not among the items; 0: there are none
  int items_ = 0, kept_ = 0, parity_ = 0;
  bool last_is_full_ = false;
};

}  // namespace osprey::cuda
