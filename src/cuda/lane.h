// What a run has to itself while it is under way: a stream, the memory that it computes in, and what carries
// its inputs and outputs between the host and the device. Runs in different lanes of a session may be on the
// device at once: those of one photo side by side, batches one right behind the other.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cuda/plan.h"
#include "cuda/streams.h"

namespace osprey {

// A plan in the memory of one lane.
struct PlacedPlan {
  std::vector<CudaValue> values;  // the plan's, with their addresses
  CudaPhotos photos;
  CudaGraph graph;          // of a whole run; empty until one wants it
  int memory_version = -1;  // of the lane's memory, which all addresses are of
};

// A plan is made once for a class of shapes: lanes share its kernels.
struct CachedPlan {
  CudaShapeClass shapes;
  CudaPlan plan;
  std::array<PlacedPlan, kCudaLanes> lanes = {};
};

struct CudaInputs {
  std::span<const ImageView> photos;
  std::vector<std::pair<ValueId, const Tensor*>> tensors;  // the graph's other inputs
  RunParameters parameters;
};

// What a run gave, on the host.
struct CudaResult {
  std::shared_ptr<const CudaPlan> plan;  // tells where the outputs lie
  PinnedBuffer outputs;                  // what every download brings
  Tensor runs;                           // mask runs, when they did not fit the download's prefix
  RunTimes times;

  Tensor output(const Graph& graph, ValueId id) const;
};

// A run is an upload, then a launch, which go on when these return; then finish(). One at a time.
class CudaLane {
 public:
  CudaLane(std::shared_ptr<const CudaShared> shared, int index);
  ~CudaLane();
  CudaLane(const CudaLane&) = delete;
  CudaLane& operator=(const CudaLane&) = delete;

  // Photos and tensors stay until the run has ended.
  void upload(std::shared_ptr<CachedPlan> plan, const CudaInputs& inputs);
  void follow(const CudaLane& other);  // what is launched next begins when the other's run is computed
  void launch();
  // One kernel after the other, which lets values be looked at.
  void launch_singly(const RunOptions& options);
  void wait() const;  // until all that was begun has ended
  // Waits for the run, which the next one overwrites, and brings what it gave; the memory of what `result`
  // was goes to the next one's outputs.
  void finish(CudaResult& result);

  // Of the last run, when it has ended: as CudaSession has it.
  double replay(int replays);
  Tensor value(ValueId id);

  cudaStream_t stream() const { return stream_.get(); }
  int index() const { return index_; }
  std::size_t device_bytes() const { return arena_.size() + photos_.size(); }

 private:
  class Context;

  void reserve(std::size_t photos);
  void place();
  bool copied_on_device(const ImageView& photo, std::byte* to);
  void upload_photos(std::span<const ImageView> photos);
  void upload_sizes();
  void upload_parameters(const RunParameters& parameters);
  void feed(ValueId id, const Tensor& tensor);
  CudaGraph& graph();
  void launch_all();
  void download();
  void add_node_times(RunTimes& times) const;
  void observe(const CudaPlannedStep& step, const RunOptions& options);
  Tensor fetch(ValueId id);
  void fill_guards(const CudaPlannedStep& step);
  void check_guards(const CudaPlannedStep& step);
  const CudaPlan& plan() const { return cached_->plan; }
  PlacedPlan& placed() const { return cached_->lanes[static_cast<std::size_t>(index_)]; }
  const CudaValue& at(int value) const { return placed().values[static_cast<std::size_t>(value)]; }

  const std::shared_ptr<const CudaShared> shared_;
  const int index_;
  CudaStream stream_;
  std::shared_ptr<CachedPlan> cached_;  // of the run
  DeviceBuffer arena_, photos_, parameters_;
  PinnedBuffer staging_, host_parameters_, outputs_;
  int memory_version_ = 0;
  std::vector<std::pair<int, int>> sizes_;  // (height, width) of the run's photos
  CudaEvent begun_, uploaded_, ready_, done_, downloaded_;
  std::vector<CudaEvent> between_steps_;  // where times of nodes were asked for
};

}  // namespace osprey
