#include "passes/memory_plan.h"

#include <random>

#include <gtest/gtest.h>

namespace osprey {
namespace {

bool alive_together(const MemoryRequest& a, const MemoryRequest& b) {
  return a.first <= b.last && b.first <= a.last;
}

TEST(MemoryPlan, ReusesWhatIsDead) {
  const std::vector<MemoryRequest> chain{{1000, 0, 1}, {1000, 1, 2}, {1000, 2, 3}, {1000, 3, 4}};
  const MemoryPlan plan = plan_memory(chain);
  EXPECT_EQ(plan.bytes, 2 * 1024u);
  EXPECT_EQ(plan.offsets[0], plan.offsets[2]);
  EXPECT_EQ(plan.offsets[1], plan.offsets[3]);
}

TEST(MemoryPlan, TakesOverInPlace) {
  const std::vector<MemoryRequest> chain{{64, 0, 2}, {64, 1, 2}, {64, 2, 3, 0}, {64, 3, 4, 2}};
  const MemoryPlan plan = plan_memory(chain);
  EXPECT_EQ(plan.in_place, (std::vector<bool>{false, false, true, true}));
  EXPECT_EQ(plan.offsets[3], plan.offsets[0]);
  EXPECT_EQ(plan.bytes, 128u);
}

TEST(MemoryPlan, DoesNotTakeOverWhatLives) {
  EXPECT_FALSE(plan_memory(std::vector<MemoryRequest>{{64, 0, 3}, {64, 1, 2, 0}}).in_place[1]);  // used later
  EXPECT_FALSE(plan_memory(std::vector<MemoryRequest>{{64, 0, 1}, {128, 1, 2, 0}}).in_place[1]);  // too small
  const MemoryPlan twice = plan_memory(std::vector<MemoryRequest>{{64, 0, 1}, {64, 1, 2, 0}, {64, 1, 2, 0}});
  EXPECT_EQ(twice.in_place, (std::vector<bool>{false, true, false}));
}

TEST(MemoryPlan, NothingAndEmptyValues) {
  EXPECT_EQ(plan_memory({}).bytes, 0u);
  EXPECT_EQ(plan_memory(std::vector<MemoryRequest>{{0, 0, 5}, {0, 0, 5}}).bytes, 0u);
}

TEST(MemoryPlan, NeverOverlapsAndStaysNearThePeak) {
  std::mt19937 random(7);
  for (int round = 0; round < 50; ++round) {
    std::vector<MemoryRequest> requests;
    for (int i = 0; i < 60; ++i) {
      const int first = static_cast<int>(random() % 40);
      requests.push_back({random() % 5000, first, first + static_cast<int>(random() % 6)});
    }
    const MemoryPlan plan = plan_memory(requests);
    std::size_t peak = 0;
    for (int step = 0; step < 50; ++step) {
      std::size_t live = 0;
      for (const auto& r : requests) live += r.first <= step && step <= r.last ? (r.bytes + 63) / 64 * 64 : 0;
      peak = std::max(peak, live);
    }
    EXPECT_LE(plan.bytes, peak + peak / 2);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(plan.offsets[i] % 64, 0u);
      EXPECT_LE(plan.offsets[i] + requests[i].bytes, plan.bytes);
      for (std::size_t j = 0; j < i; ++j) {
        if (!alive_together(requests[i], requests[j])) continue;
        EXPECT_TRUE(plan.offsets[i] + requests[i].bytes <= plan.offsets[j] ||
                    plan.offsets[j] + requests[j].bytes <= plan.offsets[i]);
      }
    }
  }
}

}  // namespace
}  // namespace osprey
