// Running a model in the framework that it was trained in: python/originals/detect.py, in the user's own
// Python, which must have that framework.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "cli/support/progress.h"
#include "eval/detections_io.h"

namespace osprey {

struct OriginalFlags {
  std::string framework, config;
  std::string python;  // empty: OSPREY_PYTHON of the environment, or python3

  // --framework, --framework-config, --python
  void declare(CLI::App& app);
};

// The framework that a file or folder belongs to ("tensorflow" where a saved_model.pb is in it, "paddle"
// where an inference program is); empty when nothing tells.
std::string framework_of(const std::filesystem::path& model);

// What the original model detects in these photos, by their names here. Error(kUsage) where the framework is
// not given and cannot be told, or is not installed; Error(kBadInput) where it fails on the model.
DetectionsFile detect_with_original(const std::filesystem::path& model, const OriginalFlags& flags,
                                    const std::vector<std::filesystem::path>& photos, ProgressBar& bar);

}  // namespace osprey
