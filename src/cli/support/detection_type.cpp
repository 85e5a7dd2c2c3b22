#include "cli/support/detection_type.h"

#include "core/error.h"

namespace osprey {

void DetectionType::declare(CLI::App& app) {
  app.add_option("--detection-type", name_,
                 "bbox: boxes alone; segmentation: with masks; default: what the engine gives")
      ->check(CLI::IsMember({"bbox", "segmentation"}));
}

void DetectionType::check(const LoadedEngine& engine) const {
  if (name_ == "segmentation" && engine.graph().find("mask_runs") == kNoValue)
    fail(ErrorCode::kUsage, "--detection-type segmentation: the engine gives no masks");
}

void DetectionType::apply(Detections& found) const {
  if (name_ != "bbox") return;
  for (Detection& d : found.items) d.mask.reset();
}

}  // namespace osprey
