#include "cuda/streams.h"

#include <utility>

#include "cuda/check.h"

namespace osprey {

CudaStream::CudaStream() {
  cuda_check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a CUDA stream");
}
CudaStream::~CudaStream() { cudaStreamDestroy(stream_); }

CudaEvent::CudaEvent() { cuda_check(cudaEventCreate(&event_), "making a CUDA event"); }
CudaEvent::~CudaEvent() {
  if (event_) cudaEventDestroy(event_);
}
CudaEvent::CudaEvent(CudaEvent&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
void CudaEvent::record(cudaStream_t stream) {
  cuda_check(cudaEventRecord(event_, stream), "recording an event");
}

double seconds_between(const CudaEvent& from, const CudaEvent& to) {
  float milliseconds = 0;
  cuda_check(cudaEventElapsedTime(&milliseconds, from.get(), to.get()), "reading events");
  return static_cast<double>(milliseconds) * 1e-3;
}

CudaGraph::~CudaGraph() {
  if (exec_) cudaGraphExecDestroy(exec_);
}
CudaGraph::CudaGraph(CudaGraph&& other) noexcept
    : exec_(std::exchange(other.exec_, nullptr)), nodes_(other.nodes_) {}
CudaGraph& CudaGraph::operator=(CudaGraph&& other) noexcept {
  std::swap(exec_, other.exec_);
  std::swap(nodes_, other.nodes_);
  return *this;
}

void CudaGraph::capture(cudaStream_t stream, const std::function<void()>& launches) {
  cudaGraph_t graph = nullptr;
  cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capturing a CUDA graph");
  try {
    launches();
  } catch (...) {  // the stream must leave capture mode, whatever went wrong
    cudaStreamEndCapture(stream, &graph);
    if (graph) cudaGraphDestroy(graph);
    throw;
  }
  cuda_check(cudaStreamEndCapture(stream, &graph), "capturing a CUDA graph");
  cudaGraphGetNodes(graph, nullptr, &nodes_);
  cudaGraphExec_t exec = nullptr;
  const cudaError_t made = cudaGraphInstantiate(&exec, graph, 0);
  cudaGraphDestroy(graph);
  cuda_check(made, "instantiating a CUDA graph");
  if (exec_) cudaGraphExecDestroy(exec_);
  exec_ = exec;
  cuda_check(cudaGraphUpload(exec_, stream), "uploading a CUDA graph");
}

void CudaGraph::replay(cudaStream_t stream) {
  cuda_check(cudaGraphLaunch(exec_, stream), "running a CUDA graph");
}

}  // namespace osprey
