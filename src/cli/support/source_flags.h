// The flags of verbs that import: SOURCE, --config, --set, --labels, --size; and KEY VALUE ... at the end, as
// maskrcnn-benchmark's and Detectron2's own tools take keys of the config.
#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "osprey/engine.h"

namespace osprey {

struct SourceFlags {
  std::string source, config, labels, size = "config";
  std::vector<std::string> overrides, pairs;

  void declare(CLI::App& app);
  SourceOptions options() const;
};

// --first-nms-threshold, --second-nms-threshold, --nms-iou, --max-detections, --mask-threshold
struct ThresholdFlags {
  Thresholds values;

  void declare(CLI::App& app);
};

// One line on what was imported, and what was left over, on stderr; verbose: the passes of a build as well.
void print_report(const ImportReport& report, bool quiet, bool verbose);

}  // namespace osprey
