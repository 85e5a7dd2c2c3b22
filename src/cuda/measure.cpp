#include "cuda/measure.h"

#include <algorithm>
#include <limits>

#include "cuda/check.h"

namespace osprey {
namespace {

constexpr int kLaunches = 10, kReplays = 5;

class Event {
 public:
  Event() { cuda_check(cudaEventCreate(&event_), "measuring"); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { cudaEventDestroy(event_); }
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

class LaunchGraph {
 public:
  LaunchGraph(cudaStream_t stream, const std::function<void()>& launch) {
    cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "measuring");
    cudaGraph_t graph = nullptr;
    try {
      for (int i = 0; i < kLaunches; ++i) launch();
    } catch (...) {
      cudaStreamEndCapture(stream, &graph);
      cudaGraphDestroy(graph);
      cudaGetLastError();
      throw;
    }
    cuda_check(cudaStreamEndCapture(stream, &graph), "measuring");
    const cudaError_t made = cudaGraphInstantiate(&exec_, graph, 0);
    cudaGraphDestroy(graph);
    cuda_check(made, "measuring");
  }
  LaunchGraph(const LaunchGraph&) = delete;
  LaunchGraph& operator=(const LaunchGraph&) = delete;
  ~LaunchGraph() { cudaGraphExecDestroy(exec_); }

  void replay(cudaStream_t stream) const { cuda_check(cudaGraphLaunch(exec_, stream), "measuring"); }

 private:
  cudaGraphExec_t exec_ = nullptr;
};

}  // namespace

std::optional<double> measure_launches(cudaStream_t stream, const std::function<void()>& launch) {
  try {
    launch();  // what is set up at the first launch does not belong into the graph
    cuda_check(cudaStreamSynchronize(stream), "measuring");
    const LaunchGraph graph(stream, launch);
    const Event begin, end;
    float least = std::numeric_limits<float>::infinity();
    graph.replay(stream);
    for (int i = 0; i < kReplays; ++i) {
      cuda_check(cudaEventRecord(begin.get(), stream), "measuring");
      graph.replay(stream);
      cuda_check(cudaEventRecord(end.get(), stream), "measuring");
      cuda_check(cudaEventSynchronize(end.get()), "measuring");
      float milliseconds = 0;
      cuda_check(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()), "measuring");
      least = std::min(least, milliseconds);
    }
    return double{least} * 1e-3 / kLaunches;
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kDevice) throw;
    return std::nullopt;
  }
}

}  // namespace osprey
