// An opened engine and its sessions, as the command and the public classes use them.
#pragma once

#include <deque>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backends/executor.h"
#include "engine/devices.h"
#include "engine/engine_file.h"
#include "engine/proposals.h"
#include "osprey/engine.h"

namespace osprey {

class LoadedEngine {
 public:
  static std::shared_ptr<const LoadedEngine> open(const std::filesystem::path& file,
                                                  const EngineOptions& options);
  // One that no file holds; `name` stands in for the file in messages.
  static std::shared_ptr<const LoadedEngine> of(EngineData data, const EngineOptions& options,
                                                const std::string& name);

  const EngineData& data() const { return data_; }
  const Graph& graph() const { return *graph_; }
  const Executor& executor() const { return *executor_; }
  const DeviceName& device() const { return device_; }  // where it runs
  const std::vector<std::string>& labels() const { return labels_; }
  bool has_output(std::string_view name) const;
  bool has_classes() const { return has_output("det_classes"); }  // proposals have none
  bool needs_proposals() const { return takes_proposals(*graph_); }
  const char* score_output() const;  // of detections: proposals have logits in their place

 private:
  LoadedEngine() = default;
  EngineData data_;
  std::shared_ptr<const Graph> graph_;
  DeviceName device_;
  std::unique_ptr<Executor> executor_;
  std::vector<std::string> labels_;
};

class DetectionSession {
 public:
  explicit DetectionSession(std::shared_ptr<const LoadedEngine> engine);

  // Detections of each photo. Photos of one network size run together; others apart, since sharing a size
  // would pad the smaller ones further and change what they give: a batch gives what its photos give one by
  // one. `times`, when given, receives where the run spent its time. `proposals`: of each photo, for engines
  // that need them.
  std::vector<Detections> detect(std::span<const ImageView> photos, const RunOptions& options,
                                 RunTimes* times = nullptr,
                                 std::span<const std::vector<Proposal>> proposals = {});

  // The same in two halves, for those who have the next photos while these are detected in: start() begins
  // their runs as far as the device has room (on a GPU two at once where its memory takes both, or one; on
  // the CPU none). The photos stay until finish(), which gives the detections of those that were started
  // first. When either throws, what was started is forgotten.
  void start(std::span<const ImageView> photos, const RunOptions& options,
             std::span<const std::vector<Proposal>> proposals = {});
  std::vector<Detections> finish(RunTimes* times = nullptr);

  // The last run once more, on a GPU, without copies to and from it: seconds for one of `replays`.
  double replay(int replays) { return osprey::replay(*session_, replays); }
  std::size_t arena_bytes() const { return session_->arena_bytes(); }

 private:
  // Photos that run together, and where they were among those of the call.
  struct Run {
    std::vector<ImageView> photos;
    std::vector<std::size_t> places;
    RunOptions options;
    bool begun = false;
  };
  struct Started {
    std::size_t photos = 0;
    std::deque<Run> runs;  // that have not ended
  };

  Started runs_of(std::span<const ImageView> photos, const RunOptions& options,
                  std::span<const std::vector<Proposal>> proposals) const;
  void begin_runs();
  RunTimes end_run(Run& run);
  void forget();
  std::vector<Detections> collect(std::span<const ImageView> photos) const;

  std::shared_ptr<const LoadedEngine> engine_;
  std::unique_ptr<ExecutorSession> session_;
  std::deque<Started> started_;
};

RunParameters run_parameters(const Thresholds& thresholds);

}  // namespace osprey
