// What every model gives back, and what the drawer, the writers, the evaluator and the server take.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace osprey {

// Corners in pixels of the original image; x1 and y1 are exclusive. No +1 anywhere.
struct Box {
  float x0 = 0, y0 = 0, x1 = 0, y1 = 0;

  float width() const { return x1 - x0; }
  float height() const { return y1 - y0; }
  float area() const { return width() * height(); }
  bool operator==(const Box&) const = default;
};

// A binary mask as COCO's run lengths: columns from the left, each from the top, starting with a run of
// zeros (which may be empty); the counts add up to height * width.
struct Rle {
  int height = 0;
  int width = 0;
  std::vector<std::uint32_t> counts;

  bool operator==(const Rle&) const = default;
};

// x, y in pixels of the original image; score as the framework defines it (Detectron2's can exceed a
// softmax, see ops/decode_keypoints.h).
struct Keypoint {
  float x = 0, y = 0, score = 0;
};

// A place to look for an object in, found beforehand: for models that do not propose any (Fast R-CNN).
struct Proposal {
  Box box;
  float score = 0;  // on any scale; of more than the model takes, the best are used
};

struct Detection {
  int class_index = 0;  // 0-based in the framework's own list, without background
  float score = 0;      // a probability; of proposals (no second stage) their objectness logit
  Box box;
  std::optional<Rle> mask;          // of the size of the original image
  std::vector<Keypoint> keypoints;  // empty where the model has none
};

// The detections of one image, by descending score.
struct Detections {
  int width = 0;  // of the original image
  int height = 0;
  std::vector<Detection> items;
};

}  // namespace osprey
