// Where engines run, and what this build has for it. Everything that depends on whether Osprey was built with
// CUDA is in devices.cpp.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backends/executor.h"
#include "osprey/engine.h"

namespace osprey {

struct OpInfo;

// "cpu", or "cuda:N".
struct DeviceName {
  bool cuda = false;
  int index = 0;  // of the GPU; only for cuda
};

// From "cpu", "cuda" (the first GPU) or "cuda:N"; anything else is a usage error.
DeviceName parse_device(std::string_view text);
std::string to_string(const DeviceName& device);

// "fp32", "tf32", "bf16", "fp16", "int8".
std::string_view name_of(Precision precision);

// A usage error, with the cure, where the device does not compute in the precision.
void check_precision(const DeviceName& device, Precision precision);

// Refuses a graph with an op that the device has no kernel for, or not for its element type, naming both. A
// build without CUDA has nothing to say of cuda.
void check_kernels(const Graph& graph, const DeviceName& device);

// The graph of an engine file, made ready on `device`. Error(kDevice) where there is no such device, or this
// build has no code for it, naming the cure.
std::unique_ptr<Executor> make_executor(const std::shared_ptr<const Graph>& graph, const DeviceName& device,
                                        std::string_view precision, const EngineOptions& options);

// Photos from files, for the sessions of one thread.
class PhotoReader {
 public:
  virtual ~PhotoReader() = default;
  // Valid until something else is read into the slot.
  virtual ImageView read(const std::filesystem::path& file, std::size_t slot) = 0;
};

// As read_image() has it: the exact reference.
std::unique_ptr<PhotoReader> exact_reader();
// JPEG files by the GPU and into its memory, for sessions on it; others as above. Pixels differ from the
// reference's by a few levels. A usage error for the CPU.
std::unique_ptr<PhotoReader> gpu_reader(const DeviceName& device);

// --- For reports -------------------------------------------------------------------------------------------

struct Gpu {
  int index = 0;
  std::string name;          // "NVIDIA H200"
  std::string architecture;  // "9.0"
  std::size_t memory = 0;
};

// What there is of CUDA, in this build and on this machine.
struct CudaReport {
  bool built = false;                            // this Osprey has the CUDA executor
  std::string runtime, driver, cudnn, cublaslt;  // versions; empty: not found
  std::vector<Gpu> gpus;                         // that engines can run on
  std::string why_none;                          // where there are none
};

CudaReport cuda_report();

// The element types that the CUDA kernel of an op takes: "f32 f16", "any"; empty where it has none.
std::string cuda_types(const OpInfo& op);

// The last run of a CUDA session once more, `replays` times, on what is on the device already: seconds for
// one, by the device's clock. A usage error on another device.
double replay(ExecutorSession& session, int replays);

// A run in two halves, on a device that computes beside the host: as CudaSession::start() and finish() have
// it. start() is false, and has done nothing, where a run is one call or the device has no room for it beside
// another one.
bool start(ExecutorSession& session, std::span<const ImageView> photos, const RunOptions& options);
RunTimes finish(ExecutorSession& session);

}  // namespace osprey
