// Runs graphs on one NVIDIA GPU: cuDNN for convolutions, cuBLASLt for matrix products, our own kernels for
// the rest.
//
// A session plans once for each class of shapes: it places all values in one arena, makes each kernel ready,
// and captures the launches of a whole run, from the photos in device memory to the detections, in one CUDA
// graph. Running a planned class uploads the photos, replays the graph and downloads the outputs: nothing is
// allocated, and the host waits only for the outputs. A run that begins while another is under way has an
// arena and a graph of its own, so that both are on the device at once (runs of one photo compute side by
// side, batches one right behind the other); a session that never does so has one of each.
//
// A class of shapes is the batch, the network's input size, and the photos' sizes rounded up to powers of
// two: the true sizes are read from device memory, so that photos of different sizes share one graph.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "backends/executor.h"
#include "cuda/kernel.h"

namespace osprey {

struct CudaOptions {
  int device = 0;
  bool tf32 = false;
  bool graph =
      true;  // replay a CUDA graph; off: launch kernel by kernel, as runs that observe values do anyway
  // For tests: no value's memory is used again, so that CudaSession::value() can tell what a graph has
  // computed.
  bool keep_values = false;
  bool guards = false;  // for tests: words between values, checked after every step
  // Choosing implementations by measuring them: at most this many seconds for a class of shapes, 0 for never
  // (then the library's first choice runs). What was measured before, on the same device and libraries, is
  // read from `tuning_cache` and added to it; empty: $XDG_CACHE_HOME/osprey or ~/.cache/osprey.
  double tuning_budget = 60;
  std::filesystem::path tuning_cache = {};
  std::function<void(double done, const std::string& what)> progress = {};
};

// Photos may also lie in device memory (cuda/jpeg.h).
class CudaSession : public ExecutorSession {
 public:
  // A run in two halves, so that the next one is on the device while this one computes: two may be begun at a
  // time. False where the device's memory has no room for a second one, which then is to be started again
  // when the first has ended; the session asks for no more than one's from then on. Options must not ask for
  // values or times of nodes. The photos stay until their run has ended.
  virtual bool start(std::span<const ImageView> photos, const RunOptions& options) = 0;
  // Ends the run that began first; what it gave is valid until the next call of finish() or run().
  virtual RunTimes finish() = 0;
  // For graphs that take tensors instead of photos; outputs as with photos. Not from a CUDA graph.
  virtual RunTimes run_tensors(const std::map<std::string, Tensor>& inputs, const RunOptions& options) = 0;
  // Of the run that ended last, when none is under way: a value of the graph as it lies on the device after a
  // run with keep_values, or an output after any run or replay, in C order.
  virtual Tensor value(const std::string& name) = 0;
  // The work of the run that ended last, when none is under way, once more on what is already on the device,
  // without transfers: its time on the device in seconds, by events around `replays` runs one after the
  // other, divided.
  virtual double replay(int replays) = 0;
};

class CudaExecutor : public Executor {
 public:
  virtual std::unique_ptr<CudaSession> cuda_session() const = 0;
  virtual const CudaDevice& device() const = 0;
};

// Error(kDevice) when there is no driver, no such device, or one that this build has no code for; refuses a
// graph with an op that has no CUDA kernel, or not for its element type, naming both.
std::unique_ptr<CudaExecutor> make_cuda_executor(std::shared_ptr<const Graph> graph,
                                                 const CudaOptions& options = {});

// Refuses a graph as make_cuda_executor does for its ops; needs no GPU.
void check_cuda_kernels(const Graph& graph);

// The devices there are; none without a driver, in which case `why` says so.
std::vector<CudaDevice> cuda_devices(std::string* why = nullptr);

}  // namespace osprey
