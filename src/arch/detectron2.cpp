// Detectron2 (github.com/facebookresearch/detectron2): Fast, Faster, Mask, Keypoint and Cascade R-CNN on
// ResNets with FPN, C4 or dilated C5, RetinaNet, and region proposal networks alone, as its YAML configs
// describe them. Weight names are its checkpoints'.

#include "arch/detectron2/checkpoint.h"
#include "arch/detectron2/options.h"
#include "arch/detectron2/zoo.h"
#include "arch/family.h"
#include "arch/family/categories.h"
#include "arch/family/detectron1.h"
#include "arch/family/metadata.h"
#include "arch/family/training_checkpoint.h"
#include "ops/decode_boxes.h"
#include "ops/global_average_pool.h"
#include "ops/mean.h"
#include "ops/softmax.h"

namespace osprey {
namespace detectron2 {
namespace {

Features backbone(Net& net, const Backbone& m, ValueId image) {
  Features trunk = resnet(net, m.pyramid ? "backbone.bottom_up." : "backbone.", m.trunk, image, m.last_stage);
  if (!m.pyramid) return trunk;
  const Features used = select_features(trunk, m.fpn_inputs, "MODEL.FPN.IN_FEATURES");
  return fpn(net, "backbone.", m.fpn, used, used.back().value);
}

// What the heads work on.
struct HeadInput {
  const Config& config;
  Features roi_features;
  ValueId geometry;
};

// The box branch that StandardROIHeads and CascadeROIHeads share: one stage, or several of which each refines
// the boxes of the one before. Scores are averaged over the stages.
Detected pooled_boxes(Net& net, const HeadInput& in, ValueId rois) {
  const auto weights = stage_delta_weights(in.config);
  const bool cascade = in.config.text("MODEL.ROI_HEADS.NAME") == "CascadeROIHeads";
  const RoiPooler pooler = pooler_options(in.config, "MODEL.ROI_BOX_HEAD");
  const BoxHead head = box_head_options(in.config);
  std::vector<ValueId> scores;
  BoxPrediction last;
  for (std::size_t k = 0; k < weights.size(); ++k) {
    if (k > 0)
      rois = net.add(DecodeBoxes{.weights = weights[k - 1]}, {rois, last.deltas, in.geometry},
                     fmt::format("roi_heads.refine.{}", k - 1));
    const std::string part = cascade ? fmt::format("{}.", k) : "";
    const ValueId crops = net.stage(fmt::format("box_pooler_out_{}", k),
                                    roi_pool(net, "roi_heads.box_pooler", pooler, in.roi_features, rois));
    const ValueId features = net.stage(fmt::format("box_head_feat_{}", k),
                                       box_head(net, "roi_heads.box_head." + part, head, crops));
    last = predict_boxes(net, "roi_heads.box_predictor." + part, box_predictor_options(in.config), features);
    net.stage(fmt::format("box_logits_{}", k), last.logits);
    net.stage(fmt::format("box_deltas_{}", k), last.deltas);
    scores.push_back(net.add(Softmax{}, {last.logits}, fmt::format("roi_heads.scores.{}", k)));
  }
  const ValueId score = scores.size() == 1 ? scores[0] : net.add(Mean{}, scores, "roi_heads.scores.mean");
  return detect(net, detection_rule(in.config), weights.back(), rois, score, last.deltas, in.geometry);
}

Instances standard_instances(Net& net, const HeadInput& in, const Detected& detected) {
  Instances out;
  if (in.config.flag("MODEL.MASK_ON")) {
    const RoiPooler pooler = pooler_options(in.config, "MODEL.ROI_MASK_HEAD");
    const ValueId crops = net.stage(
        "mask_pooler_out", roi_pool(net, "roi_heads.mask_pooler", pooler, in.roi_features, detected.boxes));
    out.mask_logits =
        net.stage("mask_logits", mask_head(net, "roi_heads.mask_head.", mask_head_options(in.config), crops));
  }
  if (in.config.flag("MODEL.KEYPOINT_ON")) {
    const RoiPooler pooler = pooler_options(in.config, "MODEL.ROI_KEYPOINT_HEAD");
    const ValueId crops = net.stage("keypoint_pooler_out", roi_pool(net, "roi_heads.keypoint_pooler", pooler,
                                                                    in.roi_features, detected.boxes));
    const KeypointHead head = keypoint_head_options(in.config);
    out.heatmaps = net.stage("keypoint_logits", keypoint_head(net, "roi_heads.keypoint_head.", head, crops));
  }
  return out;
}

// Res5ROIHeads (the C4 models): res5 runs on the crops, for the boxes and again for the masks.
struct Res5Heads {
  RoiPooler pooler;
  ResNet trunk;

  ValueId operator()(Net& net, const HeadInput& in, ValueId rois, int call) const {
    const ValueId crops = roi_pool(net, "roi_heads.pooler", pooler, in.roi_features, rois);
    return resnet_stage(net, "roi_heads.res5", trunk, 5, 2,
                        net.stage(fmt::format("box_pooler_out_{}", call), crops));
  }
};

Detected res5_boxes(Net& net, const HeadInput& in, const Res5Heads& res5, ValueId rois) {
  const ValueId maps = res5(net, in, rois, 0);
  const ValueId features =
      net.stage("box_head_feat_0", net.add(GlobalAveragePool{}, {maps}, "roi_heads.mean"));
  const auto p = predict_boxes(net, "roi_heads.box_predictor.", box_predictor_options(in.config), features);
  const ValueId scores = net.add(Softmax{}, {net.stage("box_logits_0", p.logits)}, "roi_heads.scores.0");
  const auto weights = stage_delta_weights(in.config);
  return detect(net, detection_rule(in.config), weights[0], rois, scores, net.stage("box_deltas_0", p.deltas),
                in.geometry);
}

Instances res5_instances(Net& net, const HeadInput& in, const Res5Heads& res5, const Detected& detected) {
  if (in.config.flag("MODEL.KEYPOINT_ON"))
    in.config.refuse("MODEL.KEYPOINT_ON", "Res5ROIHeads has no keypoints");
  if (!in.config.flag("MODEL.MASK_ON")) return {};
  const ValueId maps = res5(net, in, detected.boxes, 1);
  return {.mask_logits = net.stage(
              "mask_logits", mask_head(net, "roi_heads.mask_head.", mask_head_options(in.config), maps))};
}

Proposals proposals(Net& net, const Config& config, const Rpn& options, const Features& features,
                    ValueId geometry) {
  constexpr const char* kKey = "MODEL.RPN.IN_FEATURES";
  return rpn(net, "proposal_generator.", options, select_features(features, config.texts(kKey), kKey),
             geometry);
}

// Whether proposals come from outside (Fast R-CNN).
bool takes_proposals(const Config& config) {
  const std::string name = config.text("MODEL.PROPOSAL_GENERATOR.NAME");
  if (name != "RPN" && name != "PrecomputedProposals")
    config.refuse("MODEL.PROPOSAL_GENERATOR.NAME", "only RPN and PrecomputedProposals are");
  return name == "PrecomputedProposals";
}

void rcnn(Net& net, const Config& config, const Backbone& m, const NetworkInput& input, bool clip) {
  const Features features = backbone(net, m, input.image);
  const ValueId rois = takes_proposals(config)
                           ? given_proposals(net, given_proposal_options(config), input.geometry, clip)
                           : proposals(net, config, rpn_options(config), features, input.geometry).boxes;
  const HeadInput in{
      config,
      select_features(features, config.texts("MODEL.ROI_HEADS.IN_FEATURES"), "MODEL.ROI_HEADS.IN_FEATURES"),
      input.geometry};
  const std::string heads = config.text("MODEL.ROI_HEADS.NAME");
  if (heads == "Res5ROIHeads") {
    if (in.roi_features.size() != 1)
      config.refuse("MODEL.ROI_HEADS.IN_FEATURES", "Res5ROIHeads takes one feature map");
    Res5Heads res5{pooler_options(config, "MODEL.ROI_BOX_HEAD"), m.trunk};
    // These heads have three bottlenecks without dilation, whatever the trunk's depth.
    res5.trunk.depth = 50;
    res5.trunk.res5_dilation = 1;
    const Detected detected = res5_boxes(net, in, res5, rois);
    photo_outputs(net, detected, res5_instances(net, in, res5, detected), input.geometry, clip);
  } else if (heads == "StandardROIHeads" || heads == "CascadeROIHeads") {
    const Detected detected = pooled_boxes(net, in, rois);
    photo_outputs(net, detected, standard_instances(net, in, detected), input.geometry, clip);
  } else {
    config.refuse("MODEL.ROI_HEADS.NAME", "only Res5ROIHeads, StandardROIHeads and CascadeROIHeads are");
  }
}

void retinanet(Net& net, const Config& config, const Backbone& m, const NetworkInput& input, bool clip) {
  const Features levels =
      select_features(backbone(net, m, input.image), config.texts("MODEL.RETINANET.IN_FEATURES"),
                      "MODEL.RETINANET.IN_FEATURES");
  const Detected detected = retinanet_head(net, "head.", retinanet_options(config), levels, input.geometry);
  photo_outputs(net, detected, {}, input.geometry, clip);
}

// The first stage alone: its proposals are what it detects, with their logits as scores and without classes.
void proposal_network(Net& net, const Config& config, const Backbone& m, const NetworkInput& input,
                      bool clip) {
  if (takes_proposals(config))
    config.refuse("MODEL.PROPOSAL_GENERATOR.NAME", "a ProposalNetwork has to make them itself");
  Rpn options = rpn_options(config);
  options.last = true;
  const Proposals found = proposals(net, config, options, backbone(net, m, input.image), input.geometry);
  photo_outputs(net, {found.boxes, found.scores, kNoValue}, {}, input.geometry, clip);
}

enum class Meta : std::uint8_t { kRcnn, kRetinaNet, kProposals };

Meta meta_architecture(const Config& config) {
  const std::string meta = config.text("MODEL.META_ARCHITECTURE");
  if (meta == "GeneralizedRCNN") return Meta::kRcnn;
  if (meta == "RetinaNet") return Meta::kRetinaNet;
  if (meta == "ProposalNetwork") return Meta::kProposals;
  config.refuse("MODEL.META_ARCHITECTURE", "only GeneralizedRCNN, RetinaNet and ProposalNetwork are");
}

std::vector<Category> categories(const Config& config) {
  const Meta meta = meta_architecture(config);
  if (meta == Meta::kProposals) return {{"object", 1}};  // anything at all
  const int count = config.integer(meta == Meta::kRetinaNet ? "MODEL.RETINANET.NUM_CLASSES"
                                                            : "MODEL.ROI_HEADS.NUM_CLASSES");
  auto data = config.texts("DATASETS.TRAIN");
  if (data.empty()) data = config.texts("DATASETS.TEST");
  return categories_of_dataset(data.empty() ? "" : data[0], count);
}

std::string describe(const Config& config, const Backbone& m) {
  const char* const trunk = m.trunk.groups > 1 ? "X" : "R";
  const std::string neck = m.pyramid ? "FPN" : m.trunk.res5_dilation == 2 ? "DC5" : "C4";
  std::string text =
      fmt::format("{}, {}-{} {}", config.text("MODEL.META_ARCHITECTURE"), trunk, m.trunk.depth, neck);
  if (meta_architecture(config) != Meta::kRcnn) return text;
  if (takes_proposals(config)) text += ", precomputed proposals";
  if (config.text("MODEL.ROI_HEADS.NAME") == "CascadeROIHeads") text += ", cascade";
  if (config.flag("MODEL.MASK_ON")) text += ", masks";
  if (config.flag("MODEL.KEYPOINT_ON")) text += ", keypoints";
  return text;
}

std::vector<NamedTensor> tensors_of(const Checkpoint& checkpoint, const Config& config, const Backbone& m) {
  if (!is_detectron1(checkpoint)) return model_tensors(checkpoint);
  const bool res5_in_heads = config.text("MODEL.ROI_HEADS.NAME") == "Res5ROIHeads";
  return from_detectron1(checkpoint, {.pyramid = m.pyramid, .res5_in_heads = res5_in_heads});
}

int recognise(const ImportRequest& request) {
  if (is_detectron2(request.checkpoint)) return 2;
  return is_detectron1(request.checkpoint) ? 1 : 0;
}

Model build(const ImportRequest& request) {
  const Config config = load(request.config, request.overrides);
  const Meta meta = meta_architecture(config);
  const Backbone trunk = backbone_options(config);
  const auto tensors = tensors_of(request.checkpoint, config, trunk);
  Net net("detectron2", tensors);
  for (const NamedTensor& t : tensors)
    if (is_leftover(t.name)) net.ignore(t.name);
  const NetworkInput input =
      photo_input(net, input_options(config, trunk.multiple, request.height, request.width));
  const bool clip = request.height == 0;
  const auto family = meta == Meta::kRetinaNet   ? retinanet
                      : meta == Meta::kProposals ? proposal_network
                                                 : rcnn;
  family(net, config, trunk, input, clip);
  Model model{.graph = net.finish(),
              .family = "detectron2",
              .description = describe(config, trunk),
              .categories = categories(config),
              .metadata = metadata_of(request)};
  model.weights = net.account();
  return model;
}

std::vector<std::pair<std::string, std::string>> zoo() { return officials().titles(); }

}  // namespace
}  // namespace detectron2

Family detectron2_family() {
  return {.name = "detectron2",
          .recognise = detectron2::recognise,
          .build = detectron2::build,
          .zoo = detectron2::zoo};
}

}  // namespace osprey
