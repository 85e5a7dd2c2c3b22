// Streams, events and graphs with owners.
#pragma once

#include <cstddef>
#include <functional>

#include <cuda_runtime_api.h>

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

}  // namespace osprey
