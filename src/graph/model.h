// A model as imported: a graph over the checkpoint's weights, and what its detections mean. Device-free, f32.
//
// The graph of every detector has these inputs and outputs, by name:
//   inputs   photos u8[N,H,W,3], sizes i32[N,2]                     (ops/resize_image.h)
//            proposals f32[<=1024*P,5]              of Fast R-CNN: rows (image, x0, y0, x1, y1) in original
//                                                   pixels, image by image, by descending score
//   outputs  det_boxes_net f32[D,5], det_scores f32[D], det_classes i32[D]   network pixels, by score
//            (a network of proposals alone: proposal_boxes and proposal_logits instead, and no classes)
//            det_boxes f32[E,5], det_rows i32[E]                    original pixels; row of the above
//            mask_runs i32[?], mask_ends i32[E]                     with masks (ops/paste_masks.h)
//            keypoints f32[E,K,3]                                   with keypoints (ops/rescale_keypoints.h)
#pragma once

#include <map>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "graph/net.h"

namespace osprey {

struct Category {
  std::string name;
  int id = 0;  // in COCO files; 1-based position when the framework has none
};

struct Model {
  Graph graph;
  std::string family;                           // "detectron2"
  std::string description;                      // "GeneralizedRCNN, R-50 FPN, masks"
  std::vector<Category> categories;             // by class index
  std::map<std::string, std::string> metadata;  // where it came from: config, checkpoint, overrides
  WeightAccount weights;
};

}  // namespace osprey
