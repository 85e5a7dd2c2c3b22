#include "arch/blocks/retinanet_head.h"

#include "arch/blocks/layers.h"
#include "ops/nms.h"
#include "ops/select_anchors.h"

namespace osprey {
namespace {

ValueId subnet(Net& net, const std::string& name, int convs, ValueId x) {
  const int width = static_cast<int>(net.channels(x));
  for (int i = 0; i < convs; ++i)
    x = conv(net, fmt::format("{}.{}", name, 2 * i), x, {.out = width, .kernel = 3, .relu = true});
  return x;
}

}  // namespace

Detected retinanet_head(Net& net, const std::string& prefix, const RetinaNetHead& m, const Features& features,
                        ValueId geometry) {
  // Boxes are clipped only when they are scaled back to the photo.
  SelectAnchors select{.anchors = m.anchors.per_cell(),
                       .classes = m.classes,
                       .cells = anchor_cells(m.anchors),
                       .offset = static_cast<float>(m.anchors.offset),
                       .activation = Activation::kSigmoid,
                       .has_threshold = true,
                       .threshold = m.rule.score,
                       .top = m.before_nms,
                       .weights = m.delta_weights,
                       .clip = false,
                       .drop_empty = false,
                       .group = AnchorGroup::kClass,
                       .stage = 2};
  const ConvLayer scores{.out = select.anchors * m.classes, .kernel = 3, .f32_out = true};
  const ConvLayer deltas{.out = select.anchors * 4, .kernel = 3, .f32_out = true};
  std::vector<ValueId> inputs;
  for (const Feature& f : features) {
    const ValueId cls = subnet(net, prefix + "cls_subnet", m.convs, f.value);
    const ValueId box = subnet(net, prefix + "bbox_subnet", m.convs, f.value);
    inputs.push_back(net.stage("cls_logits_" + f.name, conv(net, prefix + "cls_score", cls, scores)));
    inputs.push_back(net.stage("box_deltas_" + f.name, conv(net, prefix + "bbox_pred", box, deltas)));
    select.strides.push_back(f.stride);
  }
  inputs.push_back(geometry);
  auto candidates = net.add_all(std::move(select), std::move(inputs), "detections.select");
  candidates.push_back(geometry);
  const Nms nms{.iou = m.rule.iou, .max_detections = m.rule.max_detections, .stage = 2};
  return stage_detections(net, net.add_all(nms, std::move(candidates), "detections.nms"));
}

}  // namespace osprey
