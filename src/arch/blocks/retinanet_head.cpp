#include "arch/blocks/retinanet_head.h"

#include "arch/blocks/layers.h"
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
  // Detectron2 clips boxes only when they are scaled back to the photo.
  SelectAnchors select{.anchors = m.anchors.per_cell(),
                       .classes = m.classes,
                       .cells = anchor_cells(m.anchors),
                       .offset = static_cast<float>(m.anchors.offset),
                       .activation = Activation::kSigmoid,
                       .has_threshold = true,
                       .threshold = m.rule.score,
                       .top = m.before_nms,
                       .weights = m.delta_weights,
                       .clip = m.rule.old_conventions,
                       .drop_empty = false,
                       .group = AnchorGroup::kClass,
                       .stage = 2,
                       .inclusive = m.rule.old_conventions};
  const ConvLayer scores{.out = select.anchors * m.classes, .kernel = 3, .f32_out = true};
  const ConvLayer deltas{.out = select.anchors * 4, .kernel = 3, .f32_out = true};
  std::vector<ValueId> inputs;
  for (const Feature& f : features) {
    const auto& n = m.names;
    const ValueId cls = subnet(net, prefix + n.cls, m.convs, f.value);
    const ValueId box = subnet(net, prefix + n.box, m.convs, f.value);
    inputs.push_back(net.stage(n.scores_stage + f.name, conv(net, prefix + n.scores, cls, scores)));
    inputs.push_back(net.stage(n.deltas_stage + f.name, conv(net, prefix + n.deltas, box, deltas)));
    select.strides.push_back(f.stride);
  }
  inputs.push_back(geometry);
  auto candidates = net.add_all(std::move(select), std::move(inputs), "detections.select");
  candidates.push_back(geometry);
  return stage_detections(net, net.add_all(final_nms(m.rule), std::move(candidates), "detections.nms"));
}

}  // namespace osprey
