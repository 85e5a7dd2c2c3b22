// Which steps of a run may go side by side. Small kernels (the heads of a pyramid's upper levels, a shortcut
// beside its bottleneck) leave most of a GPU idle; on lanes of their own they fill it, and cost the run
// nothing.
#pragma once

#include <span>
#include <vector>

namespace osprey {

// A step as the scheduler sees it: the earlier steps whose results it reads.
using StepDependencies = std::vector<int>;

struct LanePlan {
  struct Step {
    int lane = 0;
    std::vector<int> waits;  // steps of other lanes that must have ended, all of the same section

    int section = 0;
  };
  // A section's steps run side by side as their dependencies allow; sections follow one another.
  struct Section {
    int begin = 0, end = 0;
    int lanes = 1;
  };
  std::vector<Step> steps;
  std::vector<Section> sections;
  int lanes = 1;
};

// Steps keep their order within a lane. A section ends where all results have been taken up by one lane, and
// the next step needs what that one made.
LanePlan plan_lanes(std::span<const StepDependencies> steps, int most_lanes);

}  // namespace osprey
