// A session's stream, memory, and its cache of plans with their CUDA graphs.
#pragma once

#include <array>
#include <list>

#include "cuda/plan.h"

namespace osprey {

class CudaStream {
 public:
  CudaStream();
  ~CudaStream();
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class CudaEvent {
 public:
  CudaEvent();
  ~CudaEvent();
  CudaEvent(CudaEvent&& other) noexcept;
  CudaEvent& operator=(CudaEvent&&) = delete;
  void record(cudaStream_t stream);
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

// Seconds of device time from one event to another, both of which have happened.
double seconds_between(const CudaEvent& from, const CudaEvent& to);

// The launches of a run, captured and ready to replay.
class CudaGraph {
 public:
  CudaGraph() = default;
  ~CudaGraph();
  CudaGraph(CudaGraph&& other) noexcept;
  CudaGraph& operator=(CudaGraph&& other) noexcept;
  // Captures what `launches` puts on the stream.
  void capture(cudaStream_t stream, const std::function<void()>& launches);
  void replay(cudaStream_t stream);
  bool empty() const { return exec_ == nullptr; }
  std::size_t kernels() const { return nodes_; }

 private:
  cudaGraphExec_t exec_ = nullptr;
  std::size_t nodes_ = 0;
};

class PlanCudaSession final : public CudaSession {
 public:
  explicit PlanCudaSession(std::shared_ptr<const CudaShared> shared);
  ~PlanCudaSession() override;

  RunTimes run(std::span<const ImageView> photos, const RunOptions& options) override;
  void start(std::span<const ImageView> photos, const RunOptions& options) override;
  RunTimes finish() override;
  RunTimes run_tensors(const std::map<std::string, Tensor>& inputs, const RunOptions& options) override;
  double replay(int replays) override;
  Tensor value(const std::string& name) override;
  Tensor output(const std::string& name) const override;
  std::size_t arena_bytes() const override {
    return arena_.size() + photos_.size() + arriving_.size() + shared_->weight_bytes();
  }

 private:
  class Context;

  struct CachedPlan {
    CudaShapeClass shapes;
    CudaPlan plan;
    CudaGraph graph;
    int memory_version = -1;  // of the session's memory, which `graph` has the addresses of
  };

  // What a run gave, on the host.
  struct Result {
    const CudaPlan* plan = nullptr;
    const PinnedBuffer* outputs = nullptr;
    Tensor runs;  // when they did not fit the download's prefix
    RunTimes times;
  };
  // The events around a run's upload.
  struct Upload {
    CudaEvent begin, end;
  };

  void enter();
  bool eagerly(const RunOptions& options) const;
  void prepare(std::span<const ImageView> photos, const RunOptions& options);
  void use_plan(const CudaShapeClass& shapes);
  void reserve(const CudaPlan& plan, std::int64_t photos);
  void place_values(CudaPlan& plan);
  bool copied_on_device(const ImageView& photo, std::byte* to, cudaStream_t stream);
  void upload_photos(std::span<const ImageView> photos, std::byte* to, cudaStream_t stream);
  void take_arrived(std::span<const ImageView> photos);
  void upload_sizes();
  void upload_parameters(const RunParameters& parameters);
  void feed(ValueId id, const Tensor& value);
  CudaGraph& graph();
  RunTimes run_eagerly(const RunOptions& options);
  void launch_all();
  void launch_download();
  void settle();
  std::int64_t rows(const CudaPlaced& value) const;
  NodeTime node_time(const CudaPlannedStep& step, double seconds) const;
  void observe(const CudaPlannedStep& step, const RunOptions& options);
  Tensor fetch(const CudaPlaced& value);
  void fill_guards(const CudaPlannedStep& step);
  void check_guards(const CudaPlannedStep& step);
  CudaPlan& plan() { return plans_.front().plan; }
  const CudaPlan& plan() const { return plans_.front().plan; }

  std::shared_ptr<const CudaShared> shared_;
  CudaStream stream_, copies_;
  std::list<CachedPlan> plans_;  // the most recently used first
  // `arriving_`: photos that are uploaded while another run computes.
  DeviceBuffer arena_, photos_, arriving_, parameters_;
  PinnedBuffer staging_, host_parameters_;
  std::array<PinnedBuffer, 2> outputs_;  // of runs in turn
  std::array<Upload, 2> uploads_;
  std::size_t turn_ = 0;
  int memory_version_ = 0;
  std::vector<std::pair<int, int>> sizes_;  // (height, width) of the last run's photos
  CudaEvent ready_, done_, downloaded_;
  bool running_ = false;  // a run that began and has not come to the host
  bool settled_ = false;  // result_ is of a run that nobody has ended yet
  Result result_;
};

}  // namespace osprey
