// Faster and Mask R-CNN of TensorFlow's Object Detection API (meta_architectures/faster_rcnn_meta_arch.py) on
// one feature map of stride 16: proposals, crops of the map, the trunk's last part on the crops, and for
// masks that once more on the crops of what was detected.
//
// Stages by the names of the API's prediction dictionary: "preprocessed", "rpn_features_to_crop",
// "rpn_box_predictor_features", "rpn_box_encodings", "rpn_objectness_predictions_with_background",
// "proposal_boxes", "box_classifier_features", "refined_box_encodings", "class_predictions_with_background",
// "mask_predictions"; "mask_probs" are its detection_masks.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "arch/tfod/hyperparams.h"
#include "arch/tfod/raw_input.h"
#include "arch/tfod/resnet_v1.h"

namespace osprey::tfod {

struct GridAnchors {
  int height = 256, width = 256;                    // at scale 1 and ratio 1, network pixels
  std::array<int, 2> stride{16, 16}, offset{0, 0};  // vertical, horizontal, network pixels
  std::vector<float> scales, ratios;

  int per_cell() const { return static_cast<int>(scales.size() * ratios.size()); }
};

// [per_cell, 4] corners around the cell's origin; ratios outer, scales inner, in float32.
std::vector<float> anchor_cells(const GridAnchors& m);

struct ProposalStage {
  int depth = 512, kernel = 3, dilation = 1;  // of the convolution before the predictions
  Hyperparams conv;                           // its activation is ReLU6, whatever the config says
  GridAnchors anchors;
  float score = 0;  // must be above it
  float iou = 0.7f;
  int max_proposals = 300;
};

struct Crops {
  int size = 14;                  // samples a side
  bool neighbours = false;        // use_matmul_crop_and_resize
  int pool = 2, pool_stride = 2;  // of the maximum over them
};

struct BoxStage {
  bool dropout = false;                   // a layer that is passed through, and counted
  bool shared_boxes = false;              // one box for all classes
  Activation scores = Activation::kNone;  // none: softmax; sigmoid
  float score = 0, iou = 0.6f;
  int max_per_class = 100, max_detections = 100;
};

struct MaskStage {
  int convs = 3, depth = 256;  // before the prediction
  Hyperparams conv;
  int height = 33, width = 33;
  bool agnostic = false;        // one mask for all classes
  bool convolve_first = false;  // convolutions on the crops, then enlarged to the mask, and one more
};

struct TwoStage {
  RawInput input;
  bool inception = false;  // Inception-ResNet v2; else
  ResNetV1 resnet;
  ProposalStage proposals;
  int stages = 2;  // 1: the proposals are what it detects
  int classes = 90;
  Crops crops;
  BoxStage boxes;
  std::optional<MaskStage> masks = {};
};

// The whole graph, from photos to detections in their pixels, over arch/tfod/two_stage_weights.h's names.
void two_stage(Net& net, const TwoStage& m);

}  // namespace osprey::tfod
