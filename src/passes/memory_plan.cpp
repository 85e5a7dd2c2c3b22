#include "passes/memory_plan.h"

#include <algorithm>
#include <numeric>

namespace osprey {
namespace {

// Requests that share one place, each taking over from the one before.
struct Group {
  std::size_t bytes = 0, offset = 0;
  int first = 0, last = 0;

  bool meets(const Group& other) const { return first <= other.last && other.first <= last; }
};

// The start of the smallest gap between `placed` (by offset) that holds `bytes`; behind them all if none
// does.
std::size_t best_gap(const std::vector<const Group*>& placed, std::size_t bytes) {
  std::size_t end = 0, best = 0, best_size = 0;
  for (const Group* g : placed) {
    if (g->offset >= end + bytes && (best_size == 0 || g->offset - end < best_size)) {
      best = end;
      best_size = g->offset - end;
    }
    end = std::max(end, g->offset + g->bytes);
  }
  return best_size > 0 ? best : end;
}

}  // namespace

MemoryPlan plan_memory(std::span<const MemoryRequest> requests, std::size_t alignment) {
  MemoryPlan plan{0, std::vector<std::size_t>(requests.size()), std::vector<bool>(requests.size(), false)};
  const auto round_up = [&](std::size_t n) { return (n + alignment - 1) / alignment * alignment; };

  std::vector<Group> groups;
  std::vector<std::size_t> group_of(requests.size());
  std::vector<bool> taken(requests.size(), false);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const MemoryRequest& r = requests[i];
    if (r.reuses >= 0) {
      const auto other = static_cast<std::size_t>(r.reuses);
      if (other < i && !taken[other] && requests[other].last == r.first && requests[other].bytes >= r.bytes) {
        taken[other] = plan.in_place[i] = true;
        group_of[i] = group_of[other];
        Group& group = groups[group_of[i]];
        group.last = std::max(group.last, r.last);
        continue;
      }
    }
    group_of[i] = groups.size();
    groups.push_back({round_up(r.bytes), 0, r.first, r.last});
  }

  std::vector<std::size_t> order(groups.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return groups[a].bytes > groups[b].bytes; });
  std::vector<const Group*> placed;  // by offset
  for (const std::size_t index : order) {
    Group& group = groups[index];
    std::vector<const Group*> alive;
    std::copy_if(placed.begin(), placed.end(), std::back_inserter(alive),
                 [&](const Group* g) { return g->meets(group); });
    group.offset = best_gap(alive, group.bytes);
    plan.bytes = std::max(plan.bytes, group.offset + group.bytes);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), &group,
                                   [](const Group* a, const Group* b) { return a->offset < b->offset; }),
                  &group);
  }
  for (std::size_t i = 0; i < requests.size(); ++i) plan.offsets[i] = groups[group_of[i]].offset;
  return plan;
}

}  // namespace osprey
