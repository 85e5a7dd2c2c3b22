// From a checkpoint to a drawn picture in a few lines, as maskrcnn-benchmark's COCODemo was used:
//
//   osprey::PhotoDemo demo({.source = "model_final.pth", .config = "e2e_mask_rcnn_R_50_FPN_1x.yaml"},
//                          {.min_image_size = 800, .confidence_threshold = 0.7f});
//   osprey::write_image("picture.png", demo.run_on_image(osprey::read_image("photo.jpg")));
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "osprey/api.h"
#include "osprey/detections.h"
#include "osprey/engine.h"
#include "osprey/image.h"

namespace osprey {

struct PhotoDemoOptions {
  // The shorter side that photos are resized to (INPUT.MIN_SIZE_TEST); 0: as the config says. Only for
  // checkpoints of frameworks whose configs have that key.
  int min_image_size = 0;
  float confidence_threshold = 0.7f;  // detections above it are shown
  bool show_mask_heatmaps = false;    // instead of the photo, the probabilities of the best masks
  int masks_per_dim = 2;              // a row and column of those
  std::string device = "cpu";         // "cpu", "cuda" or "cuda:N"
  int threads = 0;                    // of the CPU; 0: one for each core
};

// Not thread-safe: one a thread.
class OSPREY_API PhotoDemo {
 public:
  // Of a checkpoint with its config, or a Model: an engine is built, which no file stays of. Of an engine
  // file: that is opened.
  explicit PhotoDemo(const SourceOptions& source, const PhotoDemoOptions& options = {});
  PhotoDemo(PhotoDemo&&) noexcept;
  PhotoDemo& operator=(PhotoDemo&&) noexcept;
  ~PhotoDemo();

  // The photo with the detections drawn on it: boxes, names, masks, keypoints with their skeleton; or the
  // heat maps.
  Image run_on_image(ImageView photo);
  // All detections of the photo, whatever their score.
  Detections compute_prediction(ImageView photo);
  // Those above the threshold, by descending score.
  Detections select_top_predictions(Detections found) const;

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace osprey
