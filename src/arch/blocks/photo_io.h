// The two ends of every detector's graph, as graph/model.h names them: photos in, detections in pixels of the
// original photos out.
#pragma once

#include <vector>

#include "arch/blocks/box_head.h"
#include "graph/net.h"
#include "ops/paste_masks.h"
#include "ops/resize_image.h"

namespace osprey {

struct PhotoInput {
  int shortest = 800, longest = 1333;       // network pixels
  Fit fit = Fit::kShortestEdge;             // how they decide the size, without a canvas
  bool bgr = true;                          // the network takes blue first
  float scale = 1;                          // of 0..255, before mean and std
  std::vector<float> mean, std;             // in the network's channel order
  int multiple = 1;                         // of which height and width are padded to be
  int canvas_height = 0, canvas_width = 0;  // a fixed size instead; 0: none
  std::vector<float> fill;  // around the photo on it, as `mean`; empty: ImageNet's mean colour
};
// Bad input unless a fixed input has such extents (0: there is none).
void check_canvas(int height, int width, int multiple);
struct NetworkInput {
  ValueId image = kNoValue;     // f32[N,3,H,W]
  ValueId geometry = kNoValue;  // f32[N,6]
};
NetworkInput photo_input(Net& net, const PhotoInput& m);

// Proposals made beforehand, an input of the graph: those of each image together, best first.
struct GivenProposals {
  int top = 1000;      // an image
  float min_size = 0;  // network pixels; boxes must be larger
};
// f32[R,5] in network pixels. `clip` as below.
ValueId given_proposals(Net& net, const GivenProposals& m, ValueId geometry, bool clip);

// What the instance heads gave, where there are any.
struct Instances {
  ValueId mask_logits = kNoValue;  // [D,K,S,S]
  ValueId heatmaps = kNoValue;     // f32[D,K,S,S]
  PasteRule paste = PasteRule::kCentres;
  int first_map = 0;             // the channel of class 0 in mask_logits
  bool keypoint_logits = false;  // are the keypoints' scores
};
// Without `classes` all detections are of one kind, and there is no det_classes.
// `clip`: boxes end at the photo's edge (false with a canvas, whose border they may reach into).
void photo_outputs(Net& net, const Detected& detected, const Instances& instances, ValueId geometry,
                   bool clip);

}  // namespace osprey
