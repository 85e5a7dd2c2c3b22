// The probabilities behind masks, pasted into the photo: for heat maps.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/runtime.h"

namespace osprey {

class MaskMaps {
 public:
  // Bad usage where the engine has no masks.
  explicit MaskMaps(std::shared_ptr<const LoadedEngine> engine);
  MaskMaps(const MaskMaps&) = delete;
  MaskMaps& operator=(const MaskMaps&) = delete;

  // Has a run on one photo leave its maps here, until the next.
  void ask(RunOptions& options);
  // Of the best `count` detections of that run with a score above `threshold`: height * width numbers each,
  // 255 being 1.
  std::vector<std::vector<std::uint8_t>> best(const Detections& found, std::size_t count,
                                              float threshold) const;

 private:
  std::shared_ptr<const LoadedEngine> engine_;
  Tensor probabilities_, rows_;
};

// The score from which the engine's keypoints are worth showing, as its framework has it: where they are
// logits (ops/rescale_keypoints.h) maskrcnn-benchmark's 2, else Detectron2's 0.05.
float least_keypoint_score(const Graph& graph);

}  // namespace osprey
