// A session's plans, and the lanes that its runs take.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <list>

#include "cuda/lane.h"

namespace osprey {

class PlanCudaSession final : public CudaSession {
 public:
  explicit PlanCudaSession(std::shared_ptr<const CudaShared> shared) : shared_(std::move(shared)) {}

  RunTimes run(std::span<const ImageView> photos, const RunOptions& options) override;
  bool start(std::span<const ImageView> photos, const RunOptions& options) override;
  RunTimes finish() override;
  RunTimes run_tensors(const std::map<std::string, Tensor>& inputs, const RunOptions& options) override;
  double replay(int replays) override;
  Tensor value(const std::string& name) override;
  Tensor output(const std::string& name) const override;
  std::size_t arena_bytes() const override;

 private:
  using Launch = std::function<void(CudaLane&)>;

  void enter() const;
  bool is_under_way(const CudaLane& lane) const;
  bool begin_on_photos(std::span<const ImageView> photos, const RunOptions& options);
  bool begin(const CudaShapeClass& shapes, const CudaInputs& inputs, const Launch& launch);
  void put(CudaLane& lane, const CudaShapeClass& shapes, const CudaInputs& inputs, const Launch& launch);
  CudaLane& free_lane();
  void keep_one_lane();
  std::shared_ptr<CachedPlan> plan_for(const CudaShapeClass& shapes, const CudaLane& lane);

  const std::shared_ptr<const CudaShared> shared_;
  std::list<std::shared_ptr<CachedPlan>> plans_;  // the most recently used first
  std::array<std::unique_ptr<CudaLane>, kCudaLanes> lanes_;
  bool one_lane_ = false;            // there is no room for more
  std::deque<CudaLane*> under_way_;  // in the order in which they began
  CudaLane* last_ = nullptr;         // of the run that ended last, until the next one begins
  CudaResult result_;                // of the run that ended last
};

}  // namespace osprey
