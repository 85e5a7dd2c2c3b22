// Runs graphs on the CPU: oneDNN for convolutions and matrix products, in blocked layouts kept from layer to
// layer; our own kernels for the rest.
//
// A session plans once for each class of shapes (the graph's symbols): it chooses layouts, places all values
// in one arena, and makes each kernel ready. Running a planned class allocates nothing. Weights are packed
// once for all sessions of an executor.
//
// Numbers are those of IEEE 754, rounded to nearest, but denormal ones are zero (cpu/denormals.h): while a
// run lasts, on its threads alone. A run that observes a value may differ from one that does not in last
// places: steps that keep the value to themselves (cpu/expand_depthwise.h) are then done one by one.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "backends/executor.h"

namespace osprey {

struct CpuOptions {
  int threads = 0;      // 0: one a core that the process may use
  int block = -1;       // of 4-D values (cpu/kernel.h's CpuLayout) between kernels; -1: what suits this CPU
  bool guards = false;  // for tests: words between values, checked after every step
};

class CpuSession : public ExecutorSession {
 public:
  // For graphs that take tensors instead of photos; outputs as with photos.
  virtual RunTimes run_tensors(const std::map<std::string, Tensor>& inputs, const RunOptions& options) = 0;
};

class CpuExecutor : public Executor {
 public:
  virtual std::unique_ptr<CpuSession> cpu_session() const = 0;
};

// Refuses a graph with an op that has no CPU kernel, or not for its element type, naming both.
std::unique_ptr<CpuExecutor> make_cpu_executor(std::shared_ptr<const Graph> graph,
                                               const CpuOptions& options = {});

}  // namespace osprey
