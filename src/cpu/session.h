// A session's memory and its cache of plans.
#pragma once

#include <chrono>
#include <list>

#include "cpu/plan.h"

namespace osprey {

// Zeroed memory on whole pages, large ones where the system gives them: an arena of hundreds of megabytes
// otherwise spends a tenth of a second in page faults.
class PageBuffer {
 public:
  // Holds at least that many bytes; what was there is lost when it has to grow.
  void reserve(std::size_t bytes);
  std::byte* data() const { return memory_.get(); }
  std::size_t size() const { return bytes_; }

 private:
  struct Free {
    void operator()(std::byte* p) const;
  };
  std::unique_ptr<std::byte, Free> memory_;
  std::size_t bytes_ = 0;
};

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
    CpuPlan plan;
  };

  void use_plan(const DimBindings& bindings);
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
