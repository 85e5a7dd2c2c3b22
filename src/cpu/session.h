// A session's memory and its cache of plans.
#pragma once

#include <chrono>
#include <list>

#include "cpu/pages.h"
#include "cpu/plan.h"

namespace osprey {

class PlanSession final : public CpuSession {
 public:
  explicit PlanSession(std::shared_ptr<const CpuShared> shared);

  RunTimes run(std::span<const ImageView> photos, const RunOptions& options) override;
  RunTimes run_tensors(const std::map<std::string, Tensor>& inputs, const RunOptions& options) override;
  Tensor output(const std::string& name) const override;
  std::size_t arena_bytes() const override { return arena_.size(); }

 private:
  class Context;

  struct CachedPlan {
    DimBindings bindings;
    CpuFusion fusion;
    CpuPlan plan;
  };

  void use_plan(const DimBindings& bindings, const RunOptions& options);
  const CpuPlan& bring_plan(const DimBindings& bindings, CpuFusion fusion);
  void place_values();
  RunTimes run_steps(std::span<const ImageView> photos, const RunOptions& options);
  void start_outputs(PlannedStep& step);
  NodeTime node_time(const PlannedStep& step, double seconds) const;
  void observe(const PlannedStep& step, const RunOptions& options) const;
  void check_guards(const PlannedStep& step) const;
  PlannedValue& input(ValueId id);
  void feed(ValueId id, const Tensor& value);
  std::vector<std::byte>& growable(int value);

  std::shared_ptr<const CpuShared> shared_;
  std::list<CachedPlan> plans_;  // the most recently used first
  PageBuffer arena_;
  std::map<ValueId, std::vector<std::byte>> growable_;
};

}  // namespace osprey
