// --detection-type: whether masks count, for verbs that show detections.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include "engine/runtime.h"

namespace osprey {

class DetectionType {
 public:
  void declare(CLI::App& app);
  // Wrong usage where masks are asked for and the engine gives none.
  void check(const LoadedEngine& engine) const;
  // Leaves out the masks that were not asked for.
  void apply(Detections& found) const;

 private:
  std::string name_;  // empty: all that the engine gives
};

}  // namespace osprey
