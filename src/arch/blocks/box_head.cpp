#include "arch/blocks/box_head.h"

#include "arch/blocks/layers.h"
#include "ops/nms.h"
#include "ops/select_boxes.h"

namespace osprey {

ValueId box_head(Net& net, const std::string& prefix, const BoxHead& m, ValueId crops) {
  ValueId x = crops;
  for (int i = 1; i <= m.convs; ++i)
    x = conv(net, fmt::format("{}conv{}", prefix, i), x,
             {.out = m.conv_width, .kernel = 3, .batch_norm = m.batch_norm, .relu = true});
  for (int i = 1; i <= m.fcs; ++i)
    x = linear(net, fmt::format("{}fc{}", prefix, i), x, {.out = m.fc_width, .relu = true});
  return x;
}

BoxPrediction predict_boxes(Net& net, const std::string& prefix, const BoxPredictor& m, ValueId features) {
  const int boxes = m.class_agnostic ? 1 : m.classes;
  return {linear(net, prefix + "cls_score", features, {.out = m.classes + 1, .f32_out = true}),
          linear(net, prefix + "bbox_pred", features, {.out = boxes * 4, .f32_out = true})};
}

Detected detect(Net& net, const DetectionRule& rule, const std::vector<float>& delta_weights, ValueId rois,
                ValueId scores, ValueId deltas, ValueId geometry) {
  auto candidates = net.add_all(SelectBoxes{.threshold = rule.score, .weights = delta_weights},
                                {rois, scores, deltas, geometry}, "detections.select");
  candidates.push_back(geometry);
  const Nms nms{.iou = rule.iou, .max_detections = rule.max_detections, .stage = 2};
  return stage_detections(net, net.add_all(nms, std::move(candidates), "detections.nms"));
}

Detected stage_detections(Net& net, const std::vector<ValueId>& nms) {
  return {net.stage("det_boxes_net", nms.at(0)), net.stage("det_scores", nms.at(1)),
          net.stage("det_classes", nms.at(2))};
}

}  // namespace osprey
