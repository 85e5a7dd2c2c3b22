// Which steps run side by side, and that each waits for what it reads. Needs no GPU.
#include "cuda/lanes.h"

#include <gmock/gmock.h>

namespace osprey {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

TEST(Lanes, AChainIsSequential) {
  const StepDependencies steps[] = {{}, {0}, {1}, {2}};
  const LanePlan plan = plan_lanes(steps, 6);
  EXPECT_EQ(plan.lanes, 1);
  EXPECT_THAT(plan.sections, SizeIs(4));
  for (const auto& step : plan.steps) EXPECT_THAT(step.waits, IsEmpty());
}

// conv1, conv2, shortcut, conv3 (residual): the shortcut goes beside conv2.
TEST(Lanes, AShortcutRunsBesideItsBottleneck) {
  const StepDependencies steps[] = {{}, {0}, {1}, {0}, {2, 3}, {4}};
  const LanePlan plan = plan_lanes(steps, 6);
  EXPECT_EQ(plan.lanes, 2);
  EXPECT_NE(plan.steps[2].lane, plan.steps[3].lane);
  EXPECT_EQ(plan.steps[2].section, plan.steps[3].section);
  EXPECT_THAT(plan.steps[4].waits, SizeIs(1));
  EXPECT_GT(plan.steps[5].section, plan.steps[4].section);
}

// Two levels with two heads each, all read by one step.
TEST(Lanes, LevelsRunSideBySideUntilTheyMeet) {
  const StepDependencies steps[] = {{}, {0}, {0}, {1}, {1}, {2}, {2}, {3, 4, 5, 6}, {7}};
  const LanePlan plan = plan_lanes(steps, 3);
  EXPECT_EQ(plan.lanes, 3);
  EXPECT_EQ(plan.steps[1].section, plan.steps[7].section);
  EXPECT_GT(plan.steps[8].section, plan.steps[7].section);
}

// Whatever the graph: what a step reads is made in an earlier section, earlier on its lane, or waited for.
TEST(Lanes, EveryDependencyIsKept) {
  unsigned random = 1;
  const auto next = [&](unsigned n) { return (random = random * 1664525u + 1013904223u) / 65536u % n; };
  for (int round = 0; round < 200; ++round) {
    std::vector<StepDependencies> steps(1 + next(40));
    for (std::size_t s = 1; s < steps.size(); ++s)
      for (unsigned k = next(3); k > 0; --k)
        steps[s].push_back(static_cast<int>(next(static_cast<unsigned>(s))));
    const LanePlan plan = plan_lanes(steps, 1 + static_cast<int>(next(5)));
    for (std::size_t s = 0; s < steps.size(); ++s)
      for (const int d : steps[s]) {
        const auto& step = plan.steps[s];
        const auto& other = plan.steps[static_cast<std::size_t>(d)];
        const bool kept = other.section < step.section || other.lane == step.lane ||
                          std::find(step.waits.begin(), step.waits.end(), d) != step.waits.end();
        EXPECT_TRUE(kept) << "round " << round << ", step " << s << " reads " << d;
      }
    EXPECT_EQ(plan.sections.front().begin, 0);
    EXPECT_EQ(plan.sections.back().end, static_cast<int>(steps.size()));
    for (std::size_t i = 1; i < plan.sections.size(); ++i)
      EXPECT_EQ(plan.sections[i].begin, plan.sections[i - 1].end);
  }
}

TEST(Lanes, OneLaneKeepsTheOrder) {
  const StepDependencies steps[] = {{}, {}, {0}, {1}, {2, 3}};
  const LanePlan plan = plan_lanes(steps, 1);
  EXPECT_EQ(plan.lanes, 1);
  for (const auto& step : plan.steps) EXPECT_EQ(step.lane, 0);
}

}  // namespace
}  // namespace osprey
