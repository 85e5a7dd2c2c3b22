// How an op runs on an NVIDIA GPU: one file an op, src/cuda/<op>.cu or .cpp, defining
// `CudaKernel <op>_cuda()`.
//
// A kernel is made ready once for each class of shapes (prepare: plans, packed weights, scratch) and launched
// many times, mostly inside a CUDA graph: launch() only puts work on the stream. It allocates nothing, waits
// for nothing, reads nothing back, and launches the same work whatever the data are. What changes from run to
// run (live counts, sizes of photos, thresholds) lies in device memory, where kernels read it.
//
// Layout: 4-D floats are channels last in memory (N,H,W,C); `dims` stay logical (N,C,H,W). Everything else is
// in C order.
//
// Rows: where dims[0] depends on the data, memory holds all rows of the bound, and `rows` points to the live
// count on the device. Work beyond it is skipped where that is cheap; what the spare rows hold means nothing,
// but is never read as an index. An output whose bound is that of an input shares that input's count, except
// of a kernel that selects rows (CudaKernel::selects_rows): it writes CudaRun::out(i).rows of every output.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <cuda_runtime_api.h>

#include "core/tensor.h"
#include "cuda/check.h"
#include "cuda/device_buffer.h"
#include "graph/graph.h"

namespace osprey {

struct CudaValue {
  DType dtype = DType::kF32;
  Shape dims;                 // dims[0] of a data-dependent value is its bound
  std::byte* data = nullptr;  // on the device; null while preparing
  int* rows = nullptr;        // on the device; null where dims[0] is exact

  std::size_t bytes() const;
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }
};

// The photos of a run in device memory: photo i, RGB, 3 bytes a pixel without padding between rows, starts at
// data + i * slot_bytes. Their true sizes are the graph's input `sizes`; all are at most max_height x
// max_width, which are those of the class of shapes.
struct CudaPhotos {
  const std::uint8_t* data = nullptr;
  std::int64_t slot_bytes = 0;
  int max_height = 0, max_width = 0;
};

// RunParameters (backends/executor.h) in device memory; NaN or -1: as the op says.
struct CudaParameters {
  float first_score_threshold, score_threshold, nms_iou, mask_threshold;
  int max_detections;
};

class CudaPrepare;
class CudaRun;
class CudaTuner;

// Runs of a session that may be on the device at once, in a lane each.
inline constexpr std::size_t kCudaLanes = 2;

// A kernel made ready. What a step writes is the memory that the run gives it. Where it has memory of its own
// that launches write, it has that for each lane.
class CudaStep {
 public:
  virtual ~CudaStep() = default;
  virtual void launch(CudaRun& run) = 0;
  virtual std::string detail() const { return ""; }  // the implementation: "cudnn eng 34 k2=5", "own"
  virtual double flops() const { return 0; }         // at the bound of data-dependent extents
};

struct CudaKernel {
  const OpInfo* op = nullptr;
  std::vector<DType> dtypes;  // element types of the first input that it takes; others are declined by name
  std::unique_ptr<CudaStep> (*prepare)(CudaPrepare&) = nullptr;
  // Whether it chooses rows and writes their number (select, NMS, dropping). The outputs of others keep the
  // rows of the input that has the same bound, and share its count.
  bool selects_rows = false;
  // Inputs whose memory output 0 may take over when they die here, in order of preference; granted where the
  // bytes are equal. CudaPrepare::in_place() tells.
  std::vector<int> in_place = {};
};

const std::vector<CudaKernel>& cuda_kernels();

// A step from a callable, for kernels that need no class of their own.
std::unique_ptr<CudaStep> cuda_step(std::function<void(CudaRun&)> launch, std::string detail = "own");

// What the device is, read once.
struct CudaDevice {
  int index = 0;
  std::string name;  // "NVIDIA H200"
  int major = 0, minor = 0, multiprocessors = 0;
  std::size_t memory = 0, l2_bytes = 0, shared_bytes_optin = 0;
  int driver = 0, runtime = 0;  // 13000
};

class CudaPrepare {
 public:
  virtual ~CudaPrepare() = default;
  virtual const Graph& graph() const = 0;
  virtual const Node& node() const = 0;
  virtual bool has_input(std::size_t i) const = 0;
  virtual const CudaValue& input(std::size_t i) const = 0;  // data is null
  virtual const CudaValue& output(std::size_t i) const = 0;
  virtual const CudaPhotos& photos() const = 0;    // data is null
  virtual Tensor weight(std::size_t i) const = 0;  // the data of an input that is a weight, on the host
  // Something on the device that is derived from weights and shared by sessions and shapes: made once for
  // each key.
  virtual std::shared_ptr<const DeviceBuffer> shared(const std::string& key,
                                                     const std::function<DeviceBuffer()>& make) const = 0;
  virtual bool in_place(std::size_t i) const = 0;
  // Bytes that launch() may use for itself, 256-byte aligned; steps share the largest, so nothing survives
  // there from one step to the next.
  virtual void request_scratch(std::size_t bytes) = 0;
  virtual bool tf32() const = 0;  // f32 convolutions and matrix products may round their operands to tf32
  virtual const CudaDevice& device() const = 0;
  virtual CudaTuner& tuner() const = 0;
  virtual cudaStream_t stream() const = 0;  // for uploads and measurements while preparing

  template <class T>
  const T& op() const {
    return *node().op.as<T>();
  }
};

class CudaRun {
 public:
  virtual ~CudaRun() = default;
  virtual const CudaValue& in(std::size_t i) const = 0;
  virtual const CudaValue& out(std::size_t i) const = 0;
  virtual bool has_input(std::size_t i) const = 0;
  virtual std::byte* scratch() const = 0;
  virtual cudaStream_t stream() const = 0;
  virtual const CudaPhotos& photos() const = 0;
  virtual const CudaParameters* parameters() const = 0;  // on the device
  virtual int lane() const { return 0; }
};

// Whether a flatten's result stays channels last (H,W,C a row): so when only fully connected layers read it,
// which then permute their weights once instead.
bool flattened_channels_last(const Graph& graph, ValueId flattened);

}  // namespace osprey
