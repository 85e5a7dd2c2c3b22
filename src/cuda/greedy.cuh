// Non-maximum suppression of an image by one block, exactly as the greedy pass by descending score
// (cpu/nms.cpp, cpu/detect_anchors.cpp) does it, but for the order in which soft suppression multiplies.
//
// The block holds a portion of the candidates, the best ones.
//
// Hard suppression sorts it, a candidate a thread, which is compared with the boxes kept so far. Of those
// left the best kSettled are settled together: compared with each other, which leaves a bit a pair, through
// whose bits one warp goes; then the others are compared with what was kept of them, and so on. Where scores
// decay, the order changes with every kept box: step by step the block finds the best of those left, keeps
// it, and lets it decay the others, in one pass over the portion and one barrier. The portion then stands in
// registers, unless decayed candidates have become too many for them; of few warps while it is small, since
// what a step takes is what every warp does once more.
//
// When what is left of a portion is worse than a candidate outside it may be, the next portion is taken: from
// the list that the last came from, or where that is at its end, from a new one.
#pragma once

#include "cuda/block.cuh"
#include "cuda/boxes.cuh"
#include "graph/box_rules.h"

namespace osprey::cuda {

inline constexpr int kGreedyThreads = 1024;
inline constexpr int kHeld = 4 * kGreedyThreads;  // candidates of a portion at most
inline constexpr int kPortion = 3072;             // that a list has at least, if there are as many
inline constexpr int kTaken = 1024;               // candidates that the first portion takes at most
inline constexpr int kSettled = 128, kSettledWords = kSettled / 32;  // sorted candidates settled together
inline constexpr int kListed = 16384;                                // of a list at most
inline constexpr int kFewThreads = 256;                              // that go through a small portion
inline constexpr int kSoftThreads = 512;  // of a block where scores decay: they need many registers
inline constexpr int kCounted = 256;      // groups that are counted in shared memory

// What a run asks for.
struct GreedyRules {
  float iou, threshold;  // threshold: that a decayed score must stay above
  float decay;           // -0.5 / sigma
  int most;              // detections
  int max_per_group;     // 0: no limit
  bool one_group;
  KeptClip clip;
  float height, width;  // that boxes are clipped to
};

// Memory of one image.
struct GreedyMemory {
  Rank* listed;       // [kListed]
  Rank* ranks;        // [items]: candidates of the portion, 0: suppressed or kept
  Corners* boxes;     // [items]
  int* groups;        // [items]
  Corners* kept;      // [kept_size]
  int* kept_groups;   // [kept_size]
  int* of_group;      // [groups]: boxes kept of each
  Rank* found_ranks;  // [detections]
  Corners* found;     // [detections], clipped
};

// How many of each. Items: kHeld, or with decay, where a portion joins what is left of the last, all
// candidates and at least kHeld.
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

// Of items side by side: each step is taken for all of them before the next, so that they are under way
// together, as the compiler would not have them.
template <int N>
struct SideBySide {
  float values[N];

  template <class F>
  __device__ void each(F&& f) {
#pragma unroll
    for (int k = 0; k < N; ++k) f(k, values[k]);
  }
};

// common / all for 0 < common <= all, rounded as a division is, where neither is extreme: by the steps that
// the compiler's own takes, without its branch to those for extremes.
__device__ inline bool is_extreme(float common, float all) { return !(common > 1e-20f && all < 1e20f); }
template <int N>
__device__ void usual_quotients(SideBySide<N>& out, SideBySide<N>& common, SideBySide<N>& all) {
  SideBySide<N> inverse, rest;
  inverse.each([&](int k, float& v) { v = __fdividef(1.0f, all.values[k]); });
  rest.each([&](int k, float& v) { v = __fmaf_rn(-all.values[k], inverse.values[k], 1.0f); });
  inverse.each([&](int k, float& v) { v = __fmaf_rn(rest.values[k], v, v); });
  out.each([&](int k, float& v) { v = common.values[k] * inverse.values[k]; });
#pragma unroll
  for (int time = 0; time < 2; ++time) {
    rest.each([&](int k, float& v) { v = __fmaf_rn(-all.values[k], out.values[k], common.values[k]); });
    out.each([&](int k, float& v) { v = __fmaf_rn(rest.values[k], inverse.values[k], v); });
  }
}

// exp_rounded(v) for v <= 0, without branches. The series ends where the next term is below a double's rounding.
template <int N>
__device__ void exponentials(SideBySide<N>& values) {
  constexpr double kShift = 6755399441055744.0;  // 1.5 * 2^52: what is added to it is rounded to an integer
  constexpr double kTerms[] = {1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720,
                               1.0 / 120,      1.0 / 24,      1.0 / 6,      1.0 / 2,     1.0,        1.0};
  double x[N], shifted[N], sum[N];
  values.each([&](int k, float v) { x[k] = fmaxf(v, -150.0f); });
  values.each([&](int k, float) { shifted[k] = __fma_rn(x[k], 1.4426950408889634, kShift); });
  values.each([&](int k, float) { sum[k] = shifted[k] - kShift; });
  values.each([&](int k, float) { x[k] = __fma_rn(sum[k], -0.6931471805599453, x[k]); });
  values.each([&](int k, float) { sum[k] = 1.0 / 479001600; });
#pragma unroll
  for (const double term : kTerms) values.each([&](int k, float) { sum[k] = __fma_rn(sum[k], x[k], term); });
  values.each([&](int k, float& v) {
    const int high = __double2hiint(sum[k]) + __double2loint(shifted[k]) * (1 << 20);
    v = static_cast<float>(__hiloint2double(high, __double2loint(sum[k])));
  });
}

// Source: the candidates of an image.
//   each(below, f)     calls f(rank) for those whose rank is below `below`, from all threads together
//   box(rank, corners) false for a candidate that does not count
//   group(rank)        within which it is suppressed
// All threads of a block of kBlockThreads call everything here.
// kSoft: whether scores decay.
template <class Source, bool kSoft>
class Greedy {
 public:
  static constexpr int kBlockThreads = kSoft ? kSoftThreads : kGreedyThreads;

  __device__ Greedy(const Source& source, const GreedyRules& rules, const GreedyMemory& memory, int groups,
                    int* histogram)
      : source_(source), rules_(rules), memory_(memory), histogram_(histogram) {
    __shared__ int counts[kCounted];
    if (groups <= kCounted) memory_.of_group = counts;
    for (int g = thread(); g < groups; g += kBlockThreads) memory_.of_group[g] = 0;
    __syncthreads();
  }

  // The first list, where it was made beforehand: `count` candidates in memory.listed, all that have at least
  // the rank `floor`.
  __device__ void start(int count, Rank floor) { listed_ = count, listed_floor_ = floor; }

  // Leaves the detections, best first, in memory.found and found_ranks; returns how many.
  __device__ int run() {
    int found = 0;
    while (found < rules_.most && keep_portion(found)) extend();
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
    if (!kSoft || !(iou > 0)) return rank;
    const float score = score_of(rank) * exp_rounded(rules_.decay * iou * iou);
    return score > rules_.threshold ? rank_of(score, index_of(rank)) : 0;
  }

  // What is left of an item when the last kept box has suppressed what it can.
  template <class BoxOf>
  __device__ Rank left_of(Rank rank, int group, const Winner& last, BoxOf&& box_of) const {
    if (rank == 0 || last.rank == 0) return rank;
    if (rank == last.rank) return 0;
    if (!rules_.one_group && group != last.group) return rank;
    return last_is_full_ ? 0 : beside(last.box, box_of(), rank);
  }

  // The items where memory holds them.
  struct StoredItems {
    static constexpr int kThreads = kBlockThreads;
    const GreedyMemory& memory;
    int count;

    __device__ StoredItems(const GreedyMemory& m, int n) : memory(m), count(n) {}
    __device__ Winner best_left(const Greedy& greedy, const Winner& last) {
      Rank best = 0;
      int place = 0;
      for (int i = thread(); i < count; i += kBlockThreads) {
        const Rank before = memory.ranks[i];
        const Rank rank = greedy.left_of(before, memory.groups[i], last, [&] { return memory.boxes[i]; });
        if (rank != before) memory.ranks[i] = rank;
        if (rank > best) best = rank, place = i;
      }
      if (best == 0) return {};
      return {best, memory.boxes[place], memory.groups[place]};
    }
    __device__ void store() {}
  };

  // The items in registers, kEach a thread, until they are stored.
  template <int kOfThreads, int kEach>
  struct HeldItems {
    static constexpr int kThreads = kOfThreads;
    const GreedyMemory& memory;
    int count;
    Rank ranks[kEach];
    Corners boxes[kEach];
    int groups[kEach];

    __device__ HeldItems(const GreedyMemory& m, int n) : memory(m), count(n) {
#pragma unroll
      for (int k = 0; k < kEach; ++k) {
        const int i = thread() + k * kThreads;
        const bool live = i < count;
        ranks[k] = live ? memory.ranks[i] : 0;
        boxes[k] = live ? memory.boxes[i] : Corners{};
        groups[k] = live ? memory.groups[i] : 0;
      }
    }
    __device__ Winner best_left(const Greedy& greedy, const Winner& last) {
      if (last.rank != 0) decay(greedy, last);
      Winner best{};
#pragma unroll
      for (int k = 0; k < kEach; ++k)
        if (ranks[k] > best.rank) best = {ranks[k], boxes[k], groups[k]};
      return best;
    }
    __device__ void decay_one_by_one(const Greedy& greedy, const Winner& last) {
#pragma unroll
      for (int k = 0; k < kEach; ++k)
        ranks[k] = greedy.left_of(ranks[k], groups[k], last, [&] { return boxes[k]; });
    }
    // The same, without branches but where that would round otherwise.
    __device__ void decay(const Greedy& greedy, const Winner& last) {
      const GreedyRules& rules = greedy.rules_;
      SideBySide<kEach> common, all, iou, decay;
      bool is_met[kEach], usual = !greedy.last_is_full_;
      common.each([&](int k, float& v) {
        const float w = fminf(last.box.x1, boxes[k].x1) - fmaxf(last.box.x0, boxes[k].x0);
        const float h = fminf(last.box.y1, boxes[k].y1) - fmaxf(last.box.y0, boxes[k].y0);
        v = w * h;
        is_met[k] = w > 0 && h > 0 && v > 0 && (rules.one_group || groups[k] == last.group);
      });
      all.each([&](int k, float& v) {
        v = last.box.area() + boxes[k].area() - common.values[k];
        usual = usual && !(is_met[k] && is_extreme(common.values[k], v));
      });
      if (!usual) return decay_one_by_one(greedy, last);
      usual_quotients(iou, common, all);
      decay.each([&](int k, float& v) { v = rules.decay * iou.values[k] * iou.values[k]; });
      exponentials(decay);
#pragma unroll
      for (int k = 0; k < kEach; ++k) {
        const float score = score_of(ranks[k]) * decay.values[k];
        const bool goes = iou.values[k] > rules.iou || !(score > rules.threshold);
        const Rank decayed = goes ? 0 : rank_of(score, index_of(ranks[k]));
        ranks[k] = ranks[k] == last.rank ? 0 : is_met[k] ? decayed : ranks[k];
      }
    }
    __device__ void store() {
#pragma unroll
      for (int k = 0; k < kEach; ++k)
        if (const int i = thread() + k * kThreads; i < count) memory.ranks[i] = ranks[k];
    }
  };

  // Keeps what it can of the items. True: what comes next may be among the candidates that are none of them.
  __device__ bool keep_portion(int& found) {
    if constexpr (!kSoft) {
      return keep_sorted(found);
    } else {
      if (items_ <= kTaken) return keep_items<HeldItems<kFewThreads, kTaken / kFewThreads>>(found);
      if (items_ <= kHeld) return keep_items<HeldItems<kBlockThreads, kHeld / kBlockThreads>>(found);
      return keep_items<StoredItems>(found);
    }
  }

  // What the threads of a block know of a batch.
  struct Batch {
    int items[kSettled];                       // the best first
    unsigned better[kSettledWords][kSettled];  // bit i of word (w, j): 32 w + i, before j, suppresses j
    int found, kept;                           // of all batches so far
    bool complete;                             // nothing else can be kept
  };

  // Of items in the order of their ranks.
  __device__ bool keep_sorted(int& found) {
    for (int first = 0; first < items_; first += kBlockThreads)
      if (!keep_of_each_thread(first, found)) return false;
    return floor_ != 0;
  }

  // The same of one item a thread. False: nothing else can be kept.
  __device__ bool keep_of_each_thread(int first, int& found) {
    __shared__ Batch batch;
    const int item = first + thread();
    bool live = item < items_ && memory_.ranks[item] != 0;
    const Corners box = live ? memory_.boxes[item] : Corners{};
    const int group = live ? memory_.groups[item] : 0;
    int compared = 0;  // of the kept boxes
    while (true) {
      live = left_beside_kept(live, box, group, compared);
      compared = kept_;
      int all = 0;
      const int place = block_exclusive_sum(live, &all);
      if (all == 0) return true;
      if (live && place < kSettled) {
        batch.items[place] = item;
        live = false;
      }
      __syncthreads();
      const int count = min(all, kSettled);
      compare_with_each_other(count, batch);
      __syncthreads();
      if (warp_of_thread() == 0) settle(count, found, batch);
      __syncthreads();
      found = batch.found, kept_ = batch.kept;
      if (batch.complete) return false;
    }
  }

  __device__ bool suppresses(const Corners& kept, int kept_group, const Corners& box, int group) const {
    return (rules_.one_group || kept_group == group) && overlap_of(kept, box) > rules_.iou;
  }

  // Whether a thread's candidate is left beside the kept boxes from `first` on.
  __device__ bool left_beside_kept(bool live, const Corners& box, int group, int first) const {
    live = live && !is_full(group);
    for (int k = first; k < kept_ && __any_sync(kAll, live); ++k)
      live = live && !suppresses(memory_.kept[k], memory_.kept_groups[k], box, group);
    return live;
  }

  // A warp a word, a bit a lane.
  __device__ void compare_with_each_other(int count, Batch& batch) const {
#pragma unroll 4
    for (int word = warp_of_thread(); word < kSettledWords * kSettled; word += kBlockThreads / 32) {
      const int w = word / kSettled, j = word % kSettled;
      if (w > j / 32 || j >= count) continue;
      const int i = w * 32 + lane_of_thread();
      bool hit = false;
      if (i < j) {
        const int better = batch.items[i], worse = batch.items[j];
        hit = suppresses(memory_.boxes[better], memory_.groups[better], memory_.boxes[worse],
                         memory_.groups[worse]);
      }
      const unsigned hits = __ballot_sync(kAll, hit);
      if (lane_of_thread() == 0) batch.better[w][j] = hits;
    }
  }

  // Keeps of the batch what nothing kept suppresses. By one warp, 32 candidates at a time.
  __device__ void settle(int count, int found, Batch& batch) {
    const int lane = lane_of_thread();
    const unsigned below = (1u << lane) - 1;
    int kept = kept_;
    unsigned kept_words[kSettledWords] = {};
#pragma unroll
    for (int w = 0; w < kSettledWords; ++w) {
      const int j = w * 32 + lane;
      bool live = j < count;
      const int item = live ? batch.items[j] : 0;
#pragma unroll
      for (int v = 0; v < w; ++v) live = live && (batch.better[v][j] & kept_words[v]) == 0;
      const int group = live ? memory_.groups[item] : 0;
      live = live && !is_full(group);
      const Corners box = live ? memory_.boxes[item] : Corners{};
      const Corners clipped =
          rules_.clip == KeptClip::kNone ? box : clip_box(box, rules_.height, rules_.width);
      const bool emits = live && (rules_.clip != KeptClip::kDropEmpty || has_extent(clipped));
      const unsigned better = live ? batch.better[w][j] : 0, emitting = __ballot_sync(kAll, emits);
      unsigned keep = 0, left = __ballot_sync(kAll, live);
      while (left != 0 && found + __popc(keep & emitting) < rules_.most) {
        const int best = __ffs(static_cast<int>(left)) - 1;
        keep |= 1u << best;
        left &= ~(1u << best);
        bool gone = better >> best & 1;
        if (rules_.max_per_group > 0) {
          const int of_best = __shfl_sync(kAll, group, best);
          add_to(of_best);
          gone = gone || (group == of_best && is_full(group));
        }
        left &= ~__ballot_sync(kAll, gone);
      }
      if (keep >> lane & 1) {
        const int at = kept + __popc(keep & below);
        memory_.kept[at] = box, memory_.kept_groups[at] = group;
        const int place = found + __popc(keep & emitting & below);
        if (emits) memory_.found[place] = clipped, memory_.found_ranks[place] = memory_.ranks[item];
      }
      kept_words[w] = keep;
      kept += __popc(keep), found += __popc(keep & emitting);
    }
    if (lane == 0)
      batch.found = found, batch.kept = kept,
      batch.complete = found >= rules_.most || (rules_.one_group && is_full(0));
  }

  __device__ bool is_full(int group) const {
    return rules_.max_per_group > 0 && memory_.of_group[group] >= rules_.max_per_group;
  }
  // One more of a group, by one warp.
  __device__ void add_to(int group) const {
    __syncwarp();
    if (lane_of_thread() == 0) ++memory_.of_group[group];
    __syncwarp();
  }

  // What a step of soft suppression leaves for the next.
  struct Step {
    Winner last{};
    int of_group = 0;  // boxes kept of its group
    int parity = 0;    // of the barriers so far
  };

  // Keeps the best of the items, one after the other. Threads without items go from barrier to barrier with the
  // others, since racecheck loses count where those have barriers of their own.
  template <class Items>
  __device__ bool keep_items(int& found) {
    __shared__ struct {
      int found, kept;
      bool more;
    } after;
    __shared__ bool was_last[2];  // of barriers, by turns
    if (thread() == 0) was_last[0] = was_last[1] = false;
    if (thread() < Items::kThreads) {
      Step step;
      const bool more = keep_best<Items>(found, step);
      if (thread() == 0) after = {found, kept_, more}, was_last[step.parity] = true;
      __syncthreads();
      count_last(step);
    } else {
      int parity = 0;
      do {
        __syncthreads();
        parity ^= 1;
      } while (!was_last[parity ^ 1]);
    }
    found = after.found, kept_ = after.kept;
    return after.more;
  }

  // By the threads of Items. The last box is yet to be counted.
  template <class Items>
  __device__ bool keep_best(int& found, Step& step) {
    Items items(memory_, items_);
    bool more = false;
    last_is_full_ = false;
    while (found < rules_.most) {
      const Winner best = best_of<Items::kThreads>(items.best_left(*this, step.last), step);
      more = best.rank < floor_;
      if (more || best.rank == 0) break;
      keep(best, found, step);
      if (rules_.one_group && last_is_full_) break;
    }
    if (more) items.store();
    return more;
  }

  // The best of what the first kThreads threads have found; rank 0: none. One barrier.
  template <int kThreads>
  __device__ Winner best_of(const Winner& mine, Step& step) {
    constexpr int kWarps = kThreads / 32;
    __shared__ Winner winners[2][kWarps];
    Winner* const round = winners[step.parity];
    step.parity ^= 1;  // the barrier of the step after the next keeps readers and writers apart
    const Rank of_warp = warp_max(mine.rank);
    if (of_warp == 0 ? lane_of_thread() == 0 : mine.rank == of_warp) round[warp_of_thread()] = mine;
    __syncthreads();
    const Rank rank = round[lane_of_thread() % kWarps].rank, most = warp_max(rank);
    return round[__ffs(static_cast<int>(__ballot_sync(kAll, rank == most))) - 1];
  }

  // Counts are written a step late: others may still read that of the box that was just kept, but of the box
  // before it they know it.
  __device__ void count_last(const Step& step) const {
    if (thread() == 0 && step.last.rank != 0) memory_.of_group[step.last.group] = step.of_group;
  }

  __device__ void keep(const Winner& best, int& found, Step& step) {
    const bool same = step.last.rank != 0 && best.group == step.last.group;
    const int of_group = (same ? step.of_group : memory_.of_group[best.group]) + 1;
    if (!same) count_last(step);
    step.last = best, step.of_group = of_group;
    last_is_full_ = rules_.max_per_group > 0 && of_group >= rules_.max_per_group;
    Corners box = best.box;
    if (rules_.clip != KeptClip::kNone) box = clip_box(box, rules_.height, rules_.width);
    const bool emits = rules_.clip != KeptClip::kDropEmpty || has_extent(box);
    if (thread() == 0) {
      memory_.kept[kept_] = best.box;
      memory_.kept_groups[kept_] = best.group;
      if (emits) memory_.found[found] = box, memory_.found_ranks[found] = best.rank;
    }
    ++kept_;
    found += emits;
  }

  // Takes those of the list among the items whose rank is at least floor_ and below `below`.
  __device__ void load(Rank below) {
    __shared__ int next;
    __syncthreads();
    if (thread() == 0) next = items_;
    __syncthreads();
    for (int i = thread(); i < listed_; i += kBlockThreads) {
      Rank rank = memory_.listed[i];
      if (rank < floor_ || rank >= below) continue;
      Corners box{};
      const int group = source_.group(rank);
      if (!source_.box(rank, &box)) rank = 0;
      if (rules_.max_per_group > 0 && memory_.of_group[group] >= rules_.max_per_group) rank = 0;
      for (int k = 0; k < kept_ && rank != 0; ++k)
        if (memory_.kept_groups[k] == group) rank = beside(memory_.kept[k], box, rank);
      const int at = atomicAdd(&next, 1);
      memory_.ranks[at] = rank;
      memory_.boxes[at] = box;
      memory_.groups[at] = group;
    }
    __syncthreads();
    items_ = next;
  }

  // The same, sorted and in place of the items.
  __device__ void load_sorted(Rank below) {
    __shared__ Rank sorted[kHeld];
    const auto candidates = [&](auto&& f) {
      for (int i = thread(); i < listed_; i += kBlockThreads)
        if (const Rank rank = memory_.listed[i]; rank < below) f(rank);
    };
    items_ = collect(candidates, floor_, sorted, kHeld);
    const int size = items_ <= kTaken ? kTaken : kHeld;
    for (int i = items_ + thread(); i < size; i += kBlockThreads) sorted[i] = 0;
    __syncthreads();
    sort_descending(sorted, size);
    for (int i = thread(); i < items_; i += kBlockThreads) {
      Corners box{};
      const bool counts = source_.box(sorted[i], &box);
      memory_.ranks[i] = counts ? sorted[i] : 0;
      memory_.boxes[i] = box;
      memory_.groups[i] = source_.group(sorted[i]);
    }
    __syncthreads();
  }

  // The next portion: it joins the items where some of them may be left, that is where scores decay.
  __device__ void extend() {
    const Rank below = floor_;
    if (below <= listed_floor_) list(below);
    const auto candidates = [&](auto&& f) {
      for (int i = thread(); i < listed_; i += kBlockThreads)
        if (const Rank rank = memory_.listed[i]; rank < below) f(rank);
    };
    floor_ = listed_floor_;
    // The first portion is often the last; whoever needs more, needs many. Where scores decay it grows.
    const int most = !kSoft && below != ~Rank{0} ? kHeld : kTaken;
    if (listed_ > most)
      if (const Rank bound = find_bound(candidates, most / 4 * 3, most, histogram_); bound > floor_)
        floor_ = bound;
    if constexpr (kSoft)
      load(below);
    else
      load_sorted(below);
  }

  // A new list: of candidates below that rank.
  __device__ void list(Rank below) {
    const auto candidates = [&](auto&& f) { source_.each(below, f); };
    const Rank bound = find_bound(candidates, kPortion, kListed, histogram_);
    listed_ = collect(candidates, bound, memory_.listed, kListed);
    listed_floor_ = listed_ < kPortion ? 0 : bound;
  }

  Source source_;
  GreedyRules rules_;
  GreedyMemory memory_;
  int* histogram_;  // kDigits in shared memory
  // Candidates below it are not among the items, or not listed; 0: there are none.
  Rank floor_ = ~Rank{0}, listed_floor_ = ~Rank{0};
  int items_ = 0, listed_ = 0, kept_ = 0;
  bool last_is_full_ = false;
};

}  // namespace osprey::cuda
