// A graph made ready for one class of shapes: kernels, the layout and the place of every value.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cpu/executor.h"
#include "cpu/layout_plan.h"
#include "cpu/pages.h"

namespace osprey {

// What the sessions of an executor share.
class CpuShared {
 public:
  CpuShared(std::shared_ptr<const Graph> graph, const CpuOptions& options);

  const Graph& graph() const { return *graph_; }
  const CpuOptions& options() const { return options_; }
  int threads() const { return options_.threads; }
  const std::vector<const CpuKernel*>& kernels() const { return kernels_; }  // one a node
  const Weight* weight(ValueId id) const;

  // Made once for each key; other keys are not held up meanwhile.
  std::shared_ptr<const void> derived(const std::string& key,
                                      const std::function<std::shared_ptr<const void>()>& make) const;
  PagePool& constants() const { return constants_; }

 private:
  struct Derived {
    std::once_flag once;
    std::shared_ptr<const void> value;
  };

  std::shared_ptr<const Graph> graph_;
  CpuOptions options_;
  std::vector<const CpuKernel*> kernels_;
  std::map<ValueId, const Weight*> weights_;
  mutable PagePool constants_;  // outlives what is derived into it
  mutable std::mutex mutex_;
  mutable std::map<std::string, std::shared_ptr<Derived>> derived_;
};

// Where a value's memory is. Weights have none: kernels derive what they need from them. Photos stay where
// the caller has them.
enum class CpuHome : std::uint8_t { kArena, kGrowable, kWeight, kPhotos };

struct PlannedValue {
  CpuValue value;          // dims[0] is the live count while running
  std::int64_t bound = 0;  // of dims[0]
  ValueId id = kNoValue;
  CpuHome home = CpuHome::kArena;
  std::size_t offset = 0;    // in the arena
  std::size_t capacity = 0;  // bytes there, spare rows included
};

enum class CpuPhase : std::uint8_t { kPreprocess, kNetwork, kPostprocess };

struct PlannedStep {
  const Node* node = nullptr;  // null: a copy between layouts
  std::unique_ptr<CpuStep> step;
  std::vector<int> ins, outs;  // indices of PlannedValues
  std::vector<int> rows_from;  // for each output: the input whose live count it starts with, or -1
  CpuPhase phase = CpuPhase::kNetwork;
  // Two steps that are done as this one (cpu/expand_depthwise.h), as they would be alone.
  std::vector<PlannedStep> parts;
};

struct CpuPlan {
  std::vector<PlannedValue> values;
  std::vector<PlannedStep> steps;
  std::vector<int> outputs;
  std::vector<ValueId> hidden;  // inside steps, so that there is nothing to observe
  std::size_t arena_bytes = 0, scratch_bytes = 0;
};

// Bytes that follow every value in the arena when guards are on.
inline constexpr std::size_t kGuardBytes = 64;

// With values inside steps, or every value outside.
enum class CpuFusion : std::uint8_t { kPairs, kNone };

CpuPlan make_plan(const CpuShared& shared, const DimBindings& bindings, CpuFusion fusion);

}  // namespace osprey
