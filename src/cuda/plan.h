// A graph made ready for one class of shapes: kernels, and the place of every value in the arena.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "cuda/executor.h"
#include "cuda/tuner.h"

namespace osprey {

// What the sessions of an executor share.
class CudaShared {
 public:
  CudaShared(std::shared_ptr<const Graph> graph, const CudaOptions& options);

  const Graph& graph() const { return *graph_; }
  const CudaOptions& options() const { return options_; }
  const CudaDevice& device() const { return device_; }
  CudaTuner& tuner() const { return *tuner_; }
  const CudaKernel& kernel(const Node& node) const;
  const Weight* weight(ValueId id) const;

  // Made once for each key; other keys are not held up meanwhile.
  std::shared_ptr<const DeviceBuffer> derived(const std::string& key,
                                              const std::function<DeviceBuffer()>& make) const;
  std::size_t weight_bytes() const { return weight_bytes_; }

 private:
  struct Derived {
    std::once_flag once;
    std::shared_ptr<const DeviceBuffer> buffer;
  };

  std::shared_ptr<const Graph> graph_;
  CudaOptions options_;
  CudaDevice device_;
  std::unique_ptr<CudaTuner> tuner_;
  std::vector<const CudaKernel*> kernels_;  // one a node
  std::map<ValueId, const Weight*> weights_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, std::shared_ptr<Derived>> derived_;
  mutable std::atomic<std::size_t> weight_bytes_ = 0;
};

// What distinguishes CUDA graphs of one session: the graph's symbols, and what the photos have room in.
struct CudaShapeClass {
  DimBindings bindings;
  int max_height = 0, max_width = 0;  // of photos
  bool operator==(const CudaShapeClass&) const = default;

  std::int64_t slot_bytes() const { return std::int64_t{3} * max_height * max_width; }
};

// Of a call's photos. The extents of resized photos become those of the network's input, since the true ones
// are read from device memory.
CudaShapeClass shape_class(const Graph& graph, std::span<const ImageView> photos);

// Where a value's memory is. Weights have none: kernels derive what they need from them. Photos have buffers
// of their own.
enum class CudaHome : std::uint8_t { kArena, kWeight, kPhotos };

struct CudaPlaced {
  CudaValue value;
  ValueId id = kNoValue;
  CudaHome home = CudaHome::kArena;
  std::size_t offset = 0;  // in the arena
  int count = -1;          // which of the counts is its rows; -1: exact
};

enum class CudaPhase : std::uint8_t { kPreprocess, kNetwork, kPostprocess };

// One node, or several convolutions together (cuda/conv_group_step.h, cuda/squeezed_conv_step.h).
struct CudaPlannedStep {
  const Node* node = nullptr;  // the first
  std::unique_ptr<CudaStep> step;
  std::vector<int> ins, outs;  // of all nodes: indices of CudaPlaced values; -1: absent
  CudaPhase phase = CudaPhase::kNetwork;
  std::vector<const Node*> nodes = {};

  std::string name() const;
};

// The arena: counts first, then the graph's outputs (one copy brings both to the host), then everything else.
struct CudaPlan {
  std::vector<CudaPlaced> values;
  std::vector<CudaPlannedStep> steps;
  CudaPhotos photos;  // data is null
  int counts = 0;
  std::size_t output_bytes = 0;  // counts and outputs, of which the last may be cut to a prefix
  std::size_t arena_bytes = 0, scratch_offset = 0, scratch_bytes = 0;
};

// Bytes behind every value in the arena when guards are on.
inline constexpr std::size_t kCudaGuardBytes = 256;

// Of an output without a bound (mask runs), what every download brings; more is fetched when there is more.
inline constexpr std::size_t kRunsPrefixBytes = std::size_t{256} << 10;

CudaPlan make_cuda_plan(const CudaShared& shared, const CudaShapeClass& shapes, cudaStream_t stream);

}  // namespace osprey
