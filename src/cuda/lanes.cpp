#include "cuda/lanes.h"

#include <algorithm>

namespace osprey {
namespace {

class LanePlanner {
 public:
  LanePlanner(std::span<const StepDependencies> steps, int most) : steps_(steps), most_(most) {}

  LanePlan plan() {
    plan_.steps.resize(steps_.size());
    const int count = static_cast<int>(steps_.size());
    for (int s = 0; s < count; ++s) {
      place(s);
      if (s + 1 == count || (alone(s) && depends(s + 1, s))) close(s + 1);
    }
    return std::move(plan_);
  }

 private:
  LanePlan::Step& step(int s) { return plan_.steps[static_cast<std::size_t>(s)]; }

  // Behind the step it depends on, when that is still the last of its lane; else on a free lane; else where
  // it depends on the latest step.
  void place(int s) {
    int latest = -1, lane = -1;
    for (const int d : steps_[static_cast<std::size_t>(s)]) {
      if (d < begin_) continue;
      latest = std::max(latest, d);
      if (tails_[static_cast<std::size_t>(step(d).lane)] == d && (lane < 0 || step(d).lane < lane))
        lane = step(d).lane;
    }
    if (lane < 0) lane = free_lane(latest);
    LanePlan::Step& placed = step(s);
    placed.lane = lane;
    placed.section = static_cast<int>(plan_.sections.size());
    for (const int d : steps_[static_cast<std::size_t>(s)])
      if (d >= begin_ && step(d).lane != lane) {
        placed.waits.push_back(d);
        if (tails_[static_cast<std::size_t>(step(d).lane)] == d)
          open_[static_cast<std::size_t>(step(d).lane)] = false;
      }
    tails_[static_cast<std::size_t>(lane)] = s;
    open_[static_cast<std::size_t>(lane)] = true;
  }

  int free_lane(int latest) {
    for (std::size_t lane = 0; lane < tails_.size(); ++lane)
      if (!open_[lane]) return static_cast<int>(lane);
    if (static_cast<int>(tails_.size()) < most_) {
      tails_.push_back(-1);
      open_.push_back(false);
      return static_cast<int>(tails_.size()) - 1;
    }
    return latest >= 0 ? step(latest).lane : 0;
  }

  bool depends(int s, int on) const {
    const StepDependencies& all = steps_[static_cast<std::size_t>(s)];
    return std::find(all.begin(), all.end(), on) != all.end();
  }

  // Whether nothing is under way but the lane of step s.
  bool alone(int s) const {
    for (std::size_t lane = 0; lane < open_.size(); ++lane)
      if (open_[lane] && static_cast<int>(lane) != plan_.steps[static_cast<std::size_t>(s)].lane)
        return false;
    return true;
  }

  void close(int end) {
    plan_.sections.push_back({begin_, end, static_cast<int>(tails_.size())});
    plan_.lanes = std::max(plan_.lanes, static_cast<int>(tails_.size()));
    begin_ = end;
    tails_.assign(1, -1);
    open_.assign(1, false);
  }

  const std::span<const StepDependencies> steps_;
  const int most_;
  LanePlan plan_;
  int begin_ = 0;                  // of the section being made
  std::vector<int> tails_{-1};     // of each lane: its last step in this section
  std::vector<bool> open_{false};  // whether that step's result is still to be taken up
};

}  // namespace

LanePlan plan_lanes(std::span<const StepDependencies> steps, int most_lanes) {
  return LanePlanner(steps, std::max(most_lanes, 1)).plan();
}

}  // namespace osprey
