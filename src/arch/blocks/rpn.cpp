#include "arch/blocks/rpn.h"

#include "arch/blocks/layers.h"
#include "ops/nms.h"
#include "ops/select_anchors.h"

namespace osprey {
namespace {

ValueId hidden(Net& net, const std::string& head, const Rpn& m, ValueId x) {
  for (std::size_t i = 0; i < m.widths.size(); ++i) {
    const std::string name = m.widths.size() == 1 ? head + "conv" : fmt::format("{}conv.conv{}", head, i);
    const int out = m.widths[i] == -1 ? static_cast<int>(net.channels(x)) : m.widths[i];
    x = conv(net, name, x, {.out = out, .kernel = 3, .relu = true});
  }
  return x;
}

}  // namespace

Proposals rpn(Net& net, const std::string& prefix, const Rpn& m, const Features& features, ValueId geometry) {
  const std::string head = prefix + m.names.head;
  SelectAnchors select{.anchors = m.anchors.per_cell(),
                       .cells = anchor_cells(m.anchors),
                       .offset = static_cast<float>(m.anchors.offset),
                       .activation = m.sigmoid ? Activation::kSigmoid : Activation::kNone,
                       .top = m.before_nms,
                       .weights = m.delta_weights,
                       .min_size = m.min_size,
                       .group = AnchorGroup::kLevel,
                       .stage = m.last ? 2 : 1,
                       .inclusive = m.inclusive};
  std::vector<ValueId> inputs;
  for (const Feature& f : features) {
    const ValueId x = hidden(net, head, m, f.value);
    const ValueId logits = conv(net, head + m.names.logits, x, {.out = select.anchors, .f32_out = true});
    const ValueId deltas = conv(net, head + m.names.deltas, x, {.out = select.anchors * 4, .f32_out = true});
    inputs.push_back(net.stage("rpn_logits_" + f.name, logits));
    inputs.push_back(net.stage("rpn_deltas_" + f.name, deltas));
    select.strides.push_back(f.stride);
  }
  inputs.push_back(geometry);
  auto candidates = net.add_all(std::move(select), std::move(inputs), prefix + "select");
  candidates.push_back(geometry);
  Nms nms{.iou = m.iou,
          .max_detections = m.after_nms,
          .max_per_group = m.per_level,
          .stage = m.last ? 2 : 1,
          .inclusive = m.inclusive};
  if (m.inclusive || m.per_level > 0) nms.offset_limit = 0;
  const auto kept = net.add_all(nms, std::move(candidates), prefix + "nms");
  return {net.stage("proposal_boxes", kept[0]),
          net.stage(m.sigmoid ? "proposal_scores" : "proposal_logits", kept[1])};
}

}  // namespace osprey
