// The second stage's box branch (Girshick 2015; cascade: Cai and Vasconcelos 2018).
// Weight names: "<prefix>conv1", "<prefix>fc1", ..., unless the head names them; "<prefix>cls_score",
// "<prefix>bbox_pred".
#pragma once

#include <string>
#include <vector>

#include "arch/blocks/layers.h"
#include "ops/nms.h"

namespace osprey {

// Features of a crop: 3x3 convolutions, then fully connected layers, each with a ReLU.
struct BoxHead {
  int convs = 0, conv_width = 256;
  bool batch_norm = false;         // of the convolutions
  GroupNormLayer group_norm = {};  // of them
  int fcs = 2, fc_width = 1024;
  int dilation = 1;                               // of the convolutions
  std::vector<std::string> conv_names, fc_names;  // as many as there are; empty: conv1, ..., fc1, ...
  std::vector<std::string> norm_names = {};       // of the convolutions' norms; empty: conv1.norm, ...
  GroupNormLayer fc_group_norm = {};
};
ValueId box_head(Net& net, const std::string& prefix, const BoxHead& m, ValueId crops);

struct BoxPredictor {
  int classes = 80;
  bool class_agnostic = false;     // one set of deltas for all classes
  bool background_deltas = false;  // and one for the background, in front
};
struct BoxPrediction {
  ValueId logits = kNoValue;  // f32[R,classes+1], the background where the framework has it
  ValueId deltas = kNoValue;  // f32[R,4*classes] or f32[R,4], and 4 columns more for the background
};
BoxPrediction predict_boxes(Net& net, const std::string& prefix, const BoxPredictor& m, ValueId features);

// Which of the scored boxes are detections.
struct DetectionRule {
  float score = 0.05f;  // must be above it
  float iou = 0.5f;
  int max_detections = 100;  // an image
  // Of the predictions: the background comes first, in the deltas too, and boxes are inclusive
  // (graph/box_rules.h), as in maskrcnn-benchmark.
  bool old_conventions = false;
};
struct Detected {
  ValueId boxes = kNoValue, scores = kNoValue, classes = kNoValue;  // f32[D,5], f32[D], i32[D]
};
Detected detect(Net& net, const DetectionRule& rule, const std::vector<float>& delta_weights, ValueId rois,
                ValueId scores, ValueId deltas, ValueId geometry);

// The suppression that ends a detector by that rule.
Nms final_nms(const DetectionRule& rule);

// Names the three as the stages (and outputs) they are.
Detected stage_detections(Net& net, const std::vector<ValueId>& nms);

}  // namespace osprey
