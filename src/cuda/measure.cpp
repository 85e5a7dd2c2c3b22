#include "cuda/measure.h"

#include <algorithm>
#include <limits>

#include "cuda/check.h"
#include "cuda/streams.h"

namespace osprey {
namespace {

constexpr int kMostLaunches = 10, kReplays = 5;
constexpr double kGraphSeconds = 2e-3;  // what a graph of many launches is meant to take

class LaunchGraph {
 public:
  LaunchGraph(cudaStream_t stream, const std::function<void()>& launch, int launches) {
    cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "measuring");
    cudaGraph_t graph = nullptr;
    try {
      for (int i = 0; i < launches; ++i) launch();
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

// Seconds that `work` takes on the device.
double timed(cudaStream_t stream, const std::function<void()>& work) {
  CudaEvent begin, end;
  begin.record(stream);
  work();
  end.record(stream);
  cuda_check(cudaEventSynchronize(end.get()), "measuring");
  return seconds_between(begin, end);
}

}  // namespace

std::optional<double> measure_launches(cudaStream_t stream, const std::function<void()>& launch) {
  try {
    launch();  // what is set up at the first launch is not timed
    const double once = timed(stream, launch);
    const int launches = static_cast<int>(std::clamp(kGraphSeconds / once, 1.0, double{kMostLaunches}));
    const LaunchGraph graph(stream, launch, launches);
    const auto replay = [&] { graph.replay(stream); };
    timed(stream, replay);
    double least = std::numeric_limits<double>::infinity();
    const int replays = launches == 1 ? 2 : kReplays;
    for (int i = 0; i < replays; ++i) least = std::min(least, timed(stream, replay));
    return least / launches;
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kDevice) throw;
    return std::nullopt;
  }
}

}  // namespace osprey
