// An opened engine and its sessions, as the command and the public classes use them.
#pragma once

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

  // The last run once more, on a GPU, without copies to and from it: seconds for one of `replays`.
  double replay(int replays) { return osprey::replay(*session_, replays); }
  std::size_t arena_bytes() const { return session_->arena_bytes(); }

 private:
  std::vector<Detections> run_group(std::span<const ImageView> photos, const RunOptions& options,
                                    RunTimes& times);
  std::vector<Detections> collect(std::span<const ImageView> photos) const;

  std::shared_ptr<const LoadedEngine> engine_;
  std::unique_ptr<ExecutorSession> session_;
};

RunParameters run_parameters(const Thresholds& thresholds);

}  // namespace osprey
