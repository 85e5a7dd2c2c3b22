// The runs of `osprey bench`, timed.
#pragma once

#include <memory>
#include <vector>

#include "cli/support/bench_photos.h"
#include "cli/support/progress.h"
#include "engine/runtime.h"

namespace osprey {

struct BenchPlan {
  int iterations = 10, warm_up = 1;  // runs of each stream
  int batch = 1, streams = 1;        // photos a run; sessions side by side, a thread each
  double duration = 0;               // seconds that the timed runs take at least
  bool decode = false;               // reading and decoding the photos is part of a run
  bool gpu_decode = false;           // that decoding is the GPU's
  bool no_transfers = false;         // on a GPU: runs are replays of what is on the device already
  bool time_layers = false;
};

// Seconds, one for each timed run of all streams, unless said otherwise.
struct BenchSamples {
  std::vector<double> latency;                           // from photos in host memory to detections in it
  std::vector<double> preprocess, network, postprocess;  // on the CPU
  std::vector<double> device, upload, download;          // on a GPU: the same runs, by its clock
  std::vector<double> replay;                            // on a GPU: a run without transfers, by its clock
  double first = 0;                                      // the first run, which prepares the photos' size
  // Photos a second of the timed runs; on a GPU of as many where each begins while the one before computes.
  double rate = 0;
  double queued_rate = 0;        // on a GPU: of replays that wait for nothing but each other
  std::vector<NodeTime> layers;  // mean of `layer_runs`
  RunTimes phases;               // the means of those runs' phases
  std::size_t device_bytes = 0;  // on a GPU: the arenas of all streams

  std::size_t runs() const { return latency.size(); }
};

BenchSamples run_bench(const std::shared_ptr<const LoadedEngine>& engine, const BenchPhotos& photos,
                       const BenchPlan& plan, ProgressBar& bar);

}  // namespace osprey
