// What every executor offers: a graph made ready for a device, and sessions that run it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "graph/graph.h"
#include "osprey/image.h"

namespace osprey {

// What may be changed without building again; absent: as the graph's ops say.
struct RunParameters {
  std::optional<float> first_score_threshold;  // of proposals, as a probability (ops with stage = 1)
  std::optional<float> score_threshold;        // of detections
  std::optional<float> nms_iou;                // of detections
  std::optional<int> max_detections;           // an image; at most what the engine was built for
  std::optional<float> mask_threshold;
};

// One node's time in the last run.
struct NodeTime {
  std::string name, op, detail;  // detail: the implementation, e.g. oneDNN's
  double seconds = 0;
  double flops = 0, bytes = 0;  // of the work itself, for multiples of the floor
};

// Where a run spent its time, in seconds.
struct RunTimes {
  double preprocess = 0, network = 0, postprocess = 0;
  // On a GPU: its own time for the whole run, and that of the copies before and after it (0 on the CPU).
  double device = 0, upload = 0, download = 0;
  std::vector<NodeTime> nodes;  // only when asked for
};

struct RunOptions {
  RunParameters parameters;
  // The graph's inputs beside the photos and their sizes, by name (graph/model.h).
  std::map<std::string, Tensor> inputs;
  bool time_nodes = false;
  // Called with a value of the graph, right after it was made, in C order and its own element type: for
  // --dump and for comparing executors. `wanted` names the values; empty: none.
  std::vector<std::string> wanted;
  std::function<void(const std::string& name, const Tensor& value)> observe;
};

// Runs a graph on one device. Not thread-safe: one a thread. Everything is allocated by the first run of a
// shape; later ones of that shape allocate nothing.
class ExecutorSession {
 public:
  virtual ~ExecutorSession() = default;
  virtual RunTimes run(std::span<const ImageView> photos, const RunOptions& options) = 0;
  // An output of the graph after the last run, valid until the next; the first dimension is the live count.
  virtual Tensor output(const std::string& name) const = 0;
  // Bytes of the arena and of packed weights, for reports.
  virtual std::size_t arena_bytes() const = 0;
};

// A graph with its weights made ready for a device; shared by its sessions.
class Executor {
 public:
  virtual ~Executor() = default;
  virtual std::unique_ptr<ExecutorSession> session() const = 0;
};

}  // namespace osprey
