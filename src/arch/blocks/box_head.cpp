#include "arch/blocks/box_head.h"

#include "ops/select_boxes.h"

namespace osprey {
namespace {

std::string name_of(const std::vector<std::string>& names, const char* usual, int number) {
  return names.empty() ? fmt::format("{}{}", usual, number) : names.at(static_cast<std::size_t>(number - 1));
}

}  // namespace

ValueId box_head(Net& net, const std::string& prefix, const BoxHead& m, ValueId crops) {
  ValueId x = crops;
  for (int i = 1; i <= m.convs; ++i) {
    ConvLayer layer{.out = m.conv_width,
                    .kernel = 3,
                    .dilation = m.dilation,
                    .batch_norm = m.batch_norm,
                    .group_norm = m.group_norm,
                    .relu = true};
    if (!m.norm_names.empty()) layer.norm = prefix + name_of(m.norm_names, "", i);
    x = conv(net, prefix + name_of(m.conv_names, "conv", i), x, layer);
  }
  const LinearLayer fc{.out = m.fc_width, .relu = true, .group_norm = m.fc_group_norm};
  for (int i = 1; i <= m.fcs; ++i) x = linear(net, prefix + name_of(m.fc_names, "fc", i), x, fc);
  return x;
}

BoxPrediction predict_boxes(Net& net, const std::string& prefix, const BoxPredictor& m, ValueId features) {
  const int boxes = (m.class_agnostic ? 1 : m.classes) + (m.background_deltas ? 1 : 0);
  return {linear(net, prefix + "cls_score", features, {.out = m.classes + 1, .f32_out = true}),
          linear(net, prefix + "bbox_pred", features, {.out = boxes * 4, .f32_out = true})};
}

Detected detect(Net& net, const DetectionRule& rule, const std::vector<float>& delta_weights, ValueId rois,
                ValueId scores, ValueId deltas, ValueId geometry) {
  const SelectBoxes select{.threshold = rule.score,
                           .weights = delta_weights,
                           .background_first = rule.old_conventions,
                           .background_deltas = rule.old_conventions,
                           .inclusive = rule.old_conventions};
  auto candidates = net.add_all(select, {rois, scores, deltas, geometry}, "detections.select");
  candidates.push_back(geometry);
  const Nms nms = final_nms(rule);
  return stage_detections(net, net.add_all(nms, std::move(candidates), "detections.nms"));
}

Nms final_nms(const DetectionRule& rule) {
  Nms nms{
      .iou = rule.iou, .max_detections = rule.max_detections, .stage = 2, .inclusive = rule.old_conventions};
  if (rule.old_conventions) nms.offset_limit = 0;
  return nms;
}

Detected stage_detections(Net& net, const std::vector<ValueId>& nms) {
  return {net.stage("det_boxes_net", nms.at(0)), net.stage("det_scores", nms.at(1)),
          net.stage("det_classes", nms.at(2))};
}

}  // namespace osprey
