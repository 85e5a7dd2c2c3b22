// The second stage's box branch (Girshick 2015; cascade: Cai and Vasconcelos 2018).
// Weight names: "<prefix>conv1", "<prefix>fc1", ...; "<prefix>cls_score", "<prefix>bbox_pred".
#pragma once

#include <string>
#include <vector>

#include "graph/net.h"

namespace osprey {

// Features of a crop: 3x3 convolutions, then fully connected layers, each with a ReLU.
struct BoxHead {
  int convs = 0, conv_width = 256;
  bool batch_norm = false;  // of the convolutions
  int fcs = 2, fc_width = 1024;
};
ValueId box_head(Net& net, const std::string& prefix, const BoxHead& m, ValueId crops);

struct BoxPredictor {
  int classes = 80;
  bool class_agnostic = false;  // one set of deltas for all classes
};
struct BoxPrediction {
  ValueId logits = kNoValue;  // f32[R,classes+1], background last
  ValueId deltas = kNoValue;  // f32[R,4*classes] or f32[R,4]
};
BoxPrediction predict_boxes(Net& net, const std::string& prefix, const BoxPredictor& m, ValueId features);

// Which of the scored boxes are detections.
struct DetectionRule {
  float score = 0.05f;  // must be above it
  float iou = 0.5f;
  int max_detections = 100;  // an image
};
struct Detected {
  ValueId boxes = kNoValue, scores = kNoValue, classes = kNoValue;  // f32[D,5], f32[D], i32[D]
};
Detected detect(Net& net, const DetectionRule& rule, const std::vector<float>& delta_weights, ValueId rois,
                ValueId scores, ValueId deltas, ValueId geometry);

// Names the three as the stages (and outputs) they are.
Detected stage_detections(Net& net, const std::vector<ValueId>& nms);

}  // namespace osprey
